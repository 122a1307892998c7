//! Accounts that are bound to one at the CA's own site (RFC 8555 §7.3.4).

use super::Bench;
use edgemd::rules::acme::flow::Bond;
use edgemd::words::config::Binding;

const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

impl Bench {
    /// With a binding, as it is written.
    fn bound(hmac: &str, is_one_of_several: bool) -> Self {
        let mut bench = Self::new(&["router.example.org"]);
        let is_sound = bench.key.bind(&Binding { kid: "kid-1".into(), hmac: hmac.into() });
        bench.brief.bond = Some(Bond { is_sound, is_one_of_several });
        bench.ca.weather(|weather| weather.binding = Some(("kid-1", KEY, "HS256")));
        bench
    }

    fn count(&self, line: &str) -> usize {
        self.ca.log().iter().filter(|request| *request == line).count()
    }
}

#[test]
fn rfc_8555_7_3_4_a_new_account_is_bound_and_no_old_one() {
    for hmac in [KEY.to_string(), format!("{KEY}===")] {
        let mut bench = Bench::bound(&hmac, false);
        bench.accepted();
        assert_eq!(bench.ca.bound_to(), [Some("kid-1".into())]);
        assert_eq!(bench.ca.requests(), 10, "as many requests as any first order");
        bench.accepted();
        assert_eq!(bench.ca.accounts(), 1);
    }
    let mut bench = Bench::bound("AAAA", false);
    assert_eq!(bench.refused().to_string(), "making an account: unauthorized: the binding is not good");
    bench.brief.key_was_shown = true;
    let thumbprint = bench.key.thumbprint();
    assert_eq!(bench.refused().short(), "unauthorized");
    assert_eq!(bench.key.thumbprint(), thumbprint, "the key is not at fault");
}

/// Most CAs take HS256; the others are for those that take it not.
#[test]
fn the_macs_are_tried_in_turn() {
    for (alg, tries) in [("HS256", 1), ("HS384", 2), ("HS512", 3)] {
        let mut bench = Bench::bound(KEY, false);
        bench.ca.weather(|weather| weather.binding = Some(("kid-1", KEY, alg)));
        bench.accepted();
        assert_eq!(bench.count("POST /new-account"), tries, "{alg}");
    }
    let mut bench = Bench::bound(KEY, false);
    bench.ca.weather(|weather| weather.binding = Some(("kid-1", KEY, "ES256")));
    assert_eq!(bench.refused().short(), "badSignatureAlgorithm");
    assert_eq!(bench.count("POST /new-account"), 3);
}

/// What the CA says that it wants is not asked for in vain.
#[test]
fn what_is_missing_or_unreadable_is_found_here() {
    let mut bench = Bench::bound(KEY, false);
    bench.brief.bond = None;
    let refusal = bench.refused();
    assert_eq!(refusal.problem, "urn:ietf:params:acme:error:externalAccountRequired");
    assert!(refusal.detail.contains("see MDExternalAccountBinding"), "{refusal}");
    assert_eq!(bench.ca.requests(), 1);
    // One that does not say so says no.
    bench.ca.weather(|weather| weather.announces_binding = false);
    assert_eq!(bench.refused().short(), "externalAccountRequired");

    for hmac in ["", "==", "no base64url!", "c2VjcmV+", "c2VjcmV/", "\u{f6}\u{e4}\u{fc}"] {
        let mut bench = Bench::bound(hmac, false);
        assert_eq!(bench.refused().problem, "apache:eab-hmac-invalid", "{hmac}");
        assert_eq!(bench.ca.requests(), 1, "{hmac}");
    }
}

/// Of several CAs only the one that wants it hears of it.
#[test]
fn a_binding_among_several_cas_is_for_those_that_want_one() {
    let mut bench = Bench::bound(KEY, true);
    bench.accepted();
    assert_eq!((bench.ca.bound_to(), bench.count("POST /new-account")), (vec![Some("kid-1".into())], 1));
    for hmac in [KEY, "no base64url!"] {
        let mut bench = Bench::bound(hmac, true);
        bench.ca.weather(|weather| weather.binding = None);
        bench.accepted();
        assert_eq!(bench.ca.bound_to(), [None]);
    }
    // One that does not say so in its directory says it with its refusal.
    let mut bench = Bench::bound(KEY, true);
    bench.ca.weather(|weather| weather.announces_binding = false);
    bench.accepted();
    assert_eq!((bench.ca.bound_to(), bench.count("POST /new-account")), (vec![Some("kid-1".into())], 2));
    // Where there is but one it is meant for that one, whatever its directory says.
    let mut bench = Bench::bound(KEY, false);
    bench.ca.weather(|weather| weather.announces_binding = false);
    bench.accepted();
    assert_eq!(bench.ca.bound_to(), [Some("kid-1".into())]);
}

/// The binding is spent and the answer was lost: the account is found by its key, at once or by the next order.
#[test]
fn a_binding_for_one_time_is_not_lost_with_an_answer() {
    let mut bench = Bench::bound(KEY, false);
    bench.ca.weather(|weather| (weather.binds_once, weather.lose_once) = (true, Some("/new-account")));
    bench.accepted();
    assert_eq!(bench.count("POST /new-account"), 3, "made, refused, found");
    assert_eq!((bench.ca.accounts(), bench.ca.bound_to().len()), (1, 1));

    (bench.brief.account, bench.brief.key_was_shown) = (None, true);
    bench.accepted();
    assert_eq!((bench.count("POST /new-account"), bench.ca.accounts()), (4, 1));

    // It was another one's.
    let mut other = Bench::bound(KEY, false);
    other.ca = bench.ca.clone();
    other.ca.weather(|weather| weather.lose_once = Some("/new-account"));
    assert_eq!(other.refused().to_string(), "making an account: unauthorized: the binding is not good");
    assert_eq!(bench.ca.accounts(), 1);
}
