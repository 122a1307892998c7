//! Names that are proven in DNS.

use super::fake::ca::Weather;
use super::{World, config, journal};
use edgemd::doors::clock::Knock;
use edgemd::rules::control::Say;
use edgemd::rules::status;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::Span;
use serde_json::Value;
use std::sync::{Arc, Mutex};

const DNS: &str = "
MDCertificateAgreement accepted
MDCertificateAuthority https://ca.example/directory
MDInitialDelay 0
MDPortMap http:- https:-
MDChallengeDns01 /bin/dns --zone here
<MDomainSet a.example *.a.example>
</MDomainSet>
";

/// What the command for dns-01 was called with, after its own words and without values.
fn calls(world: &World) -> Vec<String> {
    let heard = world.ear.heard();
    let calls = heard.iter().filter(|(_, event)| event.argv[0] == "/bin/dns");
    calls.map(|(_, event)| format!("{} ({} words)", event.argv[3..5].join(" "), event.argv.len())).collect()
}

fn last(world: &World) -> Value {
    world.board.read(|reports| status::md_json(&reports[0]))["renewal"]["last"].clone()
}

#[test]
fn a_command_puts_answers_into_dns_and_takes_them_away() {
    for (version, words) in [("", 6), ("MDChallengeDns01Version 2\n", 6), ("MDChallengeDns01Version 1\n", 5)] {
        let world = World::new();
        world.live(&format!("{version}{DNS}"), Span::hours(1));
        assert!(world.status().1 && world.issued() == 1, "{}", world.status().0);
        let (setup, teardown) = ("setup a.example (6 words)", format!("teardown a.example ({words} words)"));
        assert_eq!(calls(&world), [setup, setup, &teardown, &teardown]);
        let first = &world.ear.heard()[0].1;
        assert_eq!(first.argv[..3], ["/bin/dns", "--zone", "here"]);
        assert_eq!((first.limit, first.clears), (Span::secs(60), false));
        assert!(first.env.contains(&("EDGEMD_MD", "a.example".into())), "{:?}", first.env);
        assert_eq!((world.zone.names(), world.zone.looks()), (vec![], 1));
    }
}

/// The order waits for the zone's own servers; others go on meanwhile.
#[test]
fn the_ca_is_told_when_dns_shows_it_and_nobody_else_waits_for_that() {
    let world = World::new();
    world.zone.slow(Span::secs(72));
    world.zone.takes(Span::secs(3));
    let mut conf = DNS.replace("MDPortMap http:- https:-\n", "");
    for number in 0..5 {
        conf += &format!("<MDomainSet dns{number}.example>\nMDCAChallenges dns-01\n</MDomainSet>\n");
    }
    conf += "MDomain z.example\n";
    let seen = Arc::new(Mutex::new(vec![]));
    let (ca, look) = (world.ca.clone(), seen.clone());
    world.hands.do_in(Span::secs(60), move || {
        *look.lock().unwrap() = ca.issued().iter().flat_map(|issued| issued.names.clone()).collect();
    });
    world.live(&conf, Span::mins(10));
    assert_eq!(*seen.lock().unwrap(), ["z.example"]);
    assert_eq!(world.issued(), 7, "{}", world.status().0);
    // Of 3 s each, with 5 s between them: the tenth, begun after 72 s, has seen it.
    assert_eq!(world.zone.looks(), 6 * 10);
}

#[test]
fn what_is_not_shown_in_time_is_not_asked_for_and_another_way_is_taken() {
    let world = World::new();
    world.zone.slow(Span::hours(10));
    let challenges = |world: &World| world.ca.log().iter().filter(|line| line.contains("/challenge/")).count();
    world.live(DNS, Span::mins(2));
    assert_eq!(calls(&world).len(), 4, "teardown after a failure, too, and at a stop");
    world.live(DNS, Span::mins(3));
    assert_eq!(last(&world)["problem"], "challenge-setup-failure", "{}", world.status().0);
    let text = world.status().0;
    assert!(text.contains("ns.example does not show the TXT record at _acme-challenge.a.example"), "{text}");
    assert_eq!((challenges(&world), world.issued()), (0, 0));
    assert_eq!(world.zone.names(), [""; 0]);
    let conf = DNS.replace("MDPortMap http:- https:-\n", "MDCAChallenges dns-01 http-01\n").replace(" *.a.example", "");
    world.live(&conf, Span::mins(5));
    assert_eq!(world.issued(), 1, "{}", world.status().0);
}

#[test]
fn where_dns_is_not_seen_the_wait_is_waited_out_and_the_ca_judges() {
    for (wait, least, most) in [("10mi", 580, 600), ("20s", 10, 20), ("off", 0, 0)] {
        let world = World::new();
        journal::take();
        world.zone.blind(true);
        let asked = Arc::new(Mutex::new(None));
        for second in 0..700 {
            let (ca, asked, at) = (world.ca.clone(), asked.clone(), second);
            world.hands.do_in(Span::secs(second), move || {
                if ca.log().iter().any(|line| line.contains("/challenge/")) {
                    asked.lock().unwrap().get_or_insert(at);
                }
            });
        }
        world.live(&format!("MDChallengeDns01Wait {wait}\n{DNS}"), Span::hours(1));
        assert_eq!(world.issued(), 1, "{}", world.status().0);
        let at = asked.lock().unwrap().unwrap();
        assert!((least..=most + 1).contains(&at), "{wait}: {at}");
        let said = journal::take().iter().any(|line| line.contains("DNS is not seen from here: no server answers"));
        assert_eq!((said, world.zone.looks() == 0), (wait != "off", wait == "off"));
    }
}

#[test]
fn md_720_002_md_720_003_a_command_that_fails_is_a_setup_failure() {
    let world = World::new();
    world.ear.refuse(1);
    world.live(DNS, Span::secs(10));
    let said = last(&world);
    assert_eq!(said["problem"], "challenge-setup-failure");
    assert_eq!(said["activity"], "Proving a.example by dns-01");
    assert_eq!(said["detail"], "running /bin/dns: exited with 1");
    assert_eq!(calls(&world).len(), 2, "what half a setup left is taken away: {:?}", calls(&world));
    world.live(DNS, Span::hours(1));
    assert!(world.status().1, "{}", world.status().0);
}

/// Whatever ends an order, what stands in DNS is taken away.
#[test]
fn answers_in_dns_are_withdrawn_on_every_way_out() {
    let gone = config("MDCertificateAgreement accepted\nMDInitialDelay 0\n");
    for (weather, reload, life) in [
        (Weather::default(), None, Span::secs(30)),
        (Weather::default(), Some(gone), Span::mins(1)),
        (Weather { reject: true, ..Weather::default() }, None, Span::mins(10)),
        (Weather { spoil: Some(("/challenge", super::Bad::Html)), ..Weather::default() }, None, Span::mins(10)),
    ] {
        let world = World::new();
        world.zone.slow(Span::mins(1));
        world.ca.weather(|today| *today = weather);
        if let Some(config) = reload {
            world.hands.knock_in(Span::secs(20), Knock::Reload(Box::new(config)));
        }
        let (seen, zone) = (Arc::new(Mutex::new(0)), world.zone.clone());
        let look = seen.clone();
        world.hands.do_in(Span::secs(15), move || *look.lock().unwrap() = zone.names().len());
        world.live(DNS, life);
        assert_eq!((*seen.lock().unwrap(), world.zone.names().len()), (2, 0));
        let clears = |call: &&(_, edgemd::doors::script::Event)| call.1.argv[3] == "teardown" && call.1.clears;
        assert!(world.ear.heard().iter().filter(clears).count() >= 2);
    }
}

#[test]
fn the_message_of_an_answer_in_dns_names_its_type() {
    let world = World::new();
    world.live(&format!("MDMessageCmd /bin/tell\n{DNS}"), Span::hours(1));
    let words = world.ear.words(0);
    assert!(words.contains(&"challenge-setup:dns-01:*.a.example".into()), "{words:?}");
}

const PERSIST: &str = "
MDCertificateAgreement accepted
MDCertificateAuthority https://ca.example/directory
MDInitialDelay 0
MDPortMap http:- https:-
MDCAChallenges dns-persist-01
MDomain a.example *.a.example b.example
";

const RECORDS: [&str; 2] = [
    "_validation-persist.a.example. IN TXT \"ca.example; accounturi=https://ca.example/account/0; policy=wildcard\"",
    "_validation-persist.b.example. IN TXT \"ca.example; accounturi=https://ca.example/account/0\"",
];

fn publish(world: &World) {
    for record in RECORDS {
        let (name, value) = record.split_once(". IN TXT \"").unwrap();
        world.zone.put(name, value.trim_end_matches('"'));
    }
}

fn challenges(world: &World) -> usize {
    world.ca.log().iter().filter(|line| line.contains("/challenge/")).count()
}

/// The record is shown before the CA is asked for anything that could fail, and once it is there nothing more is done.
#[test]
fn the_record_to_publish_is_shown_and_then_waited_for() {
    let world = World::new();
    world.ca.weather(|weather| weather.persist = true);
    world.live(PERSIST, Span::mins(5));
    let (text, well) = world.status();
    for record in RECORDS {
        assert!(text.contains(&format!("publish {record}")) || text.contains(&format!(" and {record}")), "{text}");
        assert!(text.contains(&format!("\n    in DNS: {record}")), "{text}");
    }
    assert!(!well && !text.contains("see to the device's network"), "{text}");
    let json = world.board.read(|reports| status::md_json(&reports[0]));
    assert_eq!(json["dns-records"], serde_json::json!(RECORDS));
    assert_eq!((challenges(&world), world.issued(), world.ca.accounts()), (0, 0, 1));
    publish(&world);
    // An hour is the longest wait, as for a net that is away; and a link that comes up ends it.
    world.hands.knock_in(Span::secs(5), Knock::LinkUp);
    world.live(PERSIST, Span::secs(30));
    assert!(world.status().1, "{}", world.status().0);
    assert_eq!((challenges(&world), world.issued(), world.ca.accounts()), (3, 1, 1));
    assert_eq!(world.ear.heard().len(), 0);
}

/// `edgemd dns` asks the CA for what it does not know, and makes the account that the record names.
#[test]
fn the_records_are_to_be_had_before_any_order() {
    let ask = |world: &World, conf: &str, name: Option<&str>| {
        let (ended, said) = smol::channel::unbounded();
        let name = name.map(|name| Name::parse(name, Labels::One).unwrap());
        world.hands.knock_in(Span::secs(1), Knock::Dns { name, ended });
        world.live(conf, Span::mins(1));
        let mut lines = vec![];
        while let Ok(say) = said.try_recv() {
            match say {
                Say::Line(line) => lines.push(line),
                Say::End(code) => lines.push(format!("= {code}")),
            }
        }
        lines
    };
    let manual = PERSIST.replace("MDInitialDelay 0", "MDDriveMode manual");
    let world = World::new();
    world.ca.weather(|weather| weather.persist = true);
    let said = [RECORDS[0], RECORDS[1], "= 0"];
    assert_eq!(ask(&world, &manual, None), said);
    assert_eq!((world.ca.accounts(), world.ca.log().iter().any(|line| line.contains("new-order"))), (1, false));
    let requests = world.ca.requests();
    assert_eq!(ask(&world, &manual, Some("a.example")), said);
    assert_eq!(world.ca.requests(), requests + 1, "the account is known: the directory alone");
    let plain = manual.replace("MDCAChallenges dns-persist-01\n", "");
    assert_eq!(ask(&world, &plain, None), ["no MD is proven by dns-persist-01 (MDCAChallenges)", "= 0"]);
    assert_eq!(ask(&world, &plain, Some("a.example")), said, "whoever asks may want to change to it");
    assert_eq!(ask(&world, &plain, Some("z.example")), ["there is no MD \"z.example\"", "= 1"]);
    world.ca.weather(|weather| weather.persist = false);
    let later = "a.example: what https://ca.example/directory is called in DNS shows in the first order there";
    assert_eq!(ask(&world, &manual, None), [later, "= 0"]);
    world.ca.weather(|weather| weather.down = true);
    let lines = ask(&world, &manual, None);
    assert!(lines[0].starts_with("https://ca.example/directory: reading the directory: "), "{lines:?}");
    assert_eq!(lines[1], "= 1");
}
