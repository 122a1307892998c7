//! Which of the CA's chains is taken (RFC 8555 §7.4.2).

use super::Bench;
use super::fake::ca::Bad;
use edgemd::rules::x509;
use edgemd::words::config::Chain;

fn under(name: &str) -> Option<Chain> {
    Some(Chain::Under(name.into()))
}

/// A bench whose CA has these roots for chains, and the wish; the issuer on top of what came, its length, the requests.
fn chain(roots: &'static [&'static str], wish: Option<Chain>) -> (String, usize, usize) {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.alternates = roots);
    bench.brief.chain = wish;
    bench.accepted();
    let before = bench.ca.requests();
    let chain = bench.run().unwrap();
    (x509::issuer(chain.last().unwrap()), chain.len(), bench.ca.requests() - before)
}

#[test]
fn rfc_8555_7_4_2_the_preferred_chain_is_asked_for_and_no_other() {
    let roots = &["Root One", "Root Two", "Root Three"];
    for (wish, top, requests) in [
        (None, "Fake CA", 9),
        (under("Fake CA"), "Fake CA", 9),
        (under("Root One"), "Root One", 10),
        (under("Root Two"), "Root Two", 11),
        (under("Root Four"), "Fake CA", 12),
        (under("Root"), "Fake CA", 12),
        (Some(Chain::Shortest), "Fake CA", 12),
    ] {
        assert_eq!(chain(roots, wish.clone()), (top.into(), 2, requests), "{wish:?}");
    }
    assert_eq!(chain(&["Root One", "", "Root Two"], Some(Chain::Shortest)), ("Fake CA".into(), 1, 12));
    assert_eq!(chain(&[], under("Root One")), ("Fake CA".into(), 2, 9));
    assert_eq!(chain(&["x"; 40], under("Root One")).2, 9 + 8, "there is an end to it");
}

/// Whatever comes of asking for another, what was issued is there.
#[test]
fn a_chain_that_can_t_be_had_is_no_failure() {
    for bad in [Bad::Html, Bad::Empty, Bad::Problem(404, "malformed", None), Bad::Problem(429, "rateLimited", None)] {
        let mut bench = Bench::new(&["router.example.org"]);
        bench.ca.weather(|weather| {
            weather.alternates = &["Root One", "Root Two"];
            weather.spoil = Some(("/certificate/0/0", bad.clone()));
        });
        bench.brief.chain = under("Root Two");
        bench.accepted();
        let Some(super::Turn::Done(super::Granted { chain, .. })) = bench.trace.last() else {
            panic!("{:?}", bench.trace.last())
        };
        assert_eq!(x509::issuer(chain.last().unwrap()), "Root Two", "{bad:?}");
    }
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| {
        weather.alternates = &["Root One"];
        weather.spoil = Some(("/certificate/0/0", Bad::Huge));
    });
    bench.brief.chain = under("Root One");
    bench.accepted();
}
