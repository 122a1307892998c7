//! Whether DNS shows what it should: each server of the zone is asked itself, because caches remember what was before.

use crate::rules::dns::{self, Answer, Data, Kind};
use crate::rules::txt::Txt;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

pub trait Dns {
    /// Begins to look for these; nobody waits for it.
    fn look(&mut self, records: Vec<Txt>) -> Box<dyn Glance>;
}

/// A look under way.
pub trait Glance {
    /// What came of it: once, when it is over.
    fn seen(&mut self) -> Option<Seen>;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Every server that answers shows all of it.
    All,
    /// One does not: which, and what.
    Missing(String),
    /// No server of the zone could be asked, and why; so nothing is known.
    Nothing(String),
}

/// Rung, from another thread, whenever a look is over.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// The net, by way of the machine's own resolvers.
pub struct SystemDns {
    bell: Bell,
}

impl SystemDns {
    pub fn new(bell: Bell) -> Self {
        Self { bell }
    }
}

impl Dns for SystemDns {
    fn look(&mut self, records: Vec<Txt>) -> Box<dyn Glance> {
        let (say, said) = channel();
        let bell = self.bell.clone();
        let look = move || {
            let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let resolvers = dns::resolvers(&conf).into_iter().map(|address| SocketAddr::new(address, PORT)).collect();
            let mut net = Net { resolvers, port: PORT, wait: WAIT, start: now() };
            // Nobody may want to know any more.
            if say.send(look_for(&records, &mut net)).is_ok() {
                bell();
            }
        };
        // One that could not be started shows in what is seen.
        let _ = Builder::new().name("dns".into()).stack_size(STACK).spawn(look);
        Box::new(ThreadGlance(said))
    }
}

struct ThreadGlance(Receiver<Seen>);

impl Glance for ThreadGlance {
    fn seen(&mut self) -> Option<Seen> {
        match self.0.try_recv() {
            Ok(seen) => Some(seen),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Seen::Nothing("there is no thread for it".into())),
        }
    }
}

const STACK: usize = 128 << 10;

const PORT: u16 = 53;

/// How long a server may take, and all of them together.
const WAIT: Duration = Duration::from_secs(2);
const WHOLE: Duration = Duration::from_secs(30);

/// How far a name may be led on, and how many servers of a zone are asked.
const ALIASES: u32 = 8;
const SERVERS: usize = 13;

/// Who answers a question.
trait Ask {
    /// The machine's own resolvers, in turn.
    fn resolve(&mut self, name: &str, kind: Kind) -> Option<Answer>;
    /// This server itself.
    fn ask(&mut self, server: IpAddr, name: &str) -> Option<Answer>;
}

fn look_for(records: &[Txt], net: &mut dyn Ask) -> Seen {
    for txt in records {
        match look_at(txt, net) {
            Seen::All => {}
            other => return other,
        }
    }
    Seen::All
}

fn look_at(txt: &Txt, net: &mut dyn Ask) -> Seen {
    let Some(known) = net.resolve(&txt.name, Kind::Txt) else {
        return Seen::Nothing("no resolver of this machine (/etc/resolv.conf) answers".into());
    };
    match ask_around(txt, net) {
        // What a cache has is there; what it has not may be there all the same.
        Seen::Nothing(_) if known.records.iter().any(|record| shows(txt, &record.data)) => Seen::All,
        seen => seen,
    }
}

fn shows(txt: &Txt, data: &Data) -> bool {
    matches!(data, Data::Text(text) if txt.is_said_by(text))
}

fn ask_around(txt: &Txt, net: &mut dyn Ask) -> Seen {
    let mut name = txt.name.clone();
    for _ in 0..ALIASES {
        let answer = net.resolve(&name, Kind::Cname).unwrap_or_default();
        if let Some(alias) = answer.alias_of(&name) {
            name = alias.into();
            continue;
        }
        match ask_zone(txt, &name, net) {
            Ok(seen) => return seen,
            Err(alias) => name = alias,
        }
    }
    Seen::Nothing(format!("{} leads on and on", txt.name))
}

/// What the servers of its zone say; or where they lead on to.
fn ask_zone(txt: &Txt, name: &str, net: &mut dyn Ask) -> Result<Seen, String> {
    let servers = servers_of(name, net);
    if servers.is_empty() {
        return Ok(Seen::Nothing(format!("the servers for {name} are not to be found from here")));
    }
    let mut shown = false;
    for server in servers {
        for address in addresses_of(&server, net) {
            let Some(answer) = net.ask(address, name) else { continue };
            if answer.of(name).any(|data| shows(txt, data)) {
                shown = true;
                break;
            }
            if let Some(alias) = answer.alias_of(name) {
                return Err(alias.into());
            }
            // Who is not of the zone, or has not looked, says nothing by that.
            if answer.authoritative && answer.is_clear() {
                return Ok(Seen::Missing(format!("{server} does not show the TXT record at {name}")));
            }
        }
    }
    Ok(if shown { Seen::All } else { Seen::Nothing(format!("no server for {name} answers")) })
}

/// The servers of the zone that this name stands in: the nearest above it.
fn servers_of(name: &str, net: &mut dyn Ask) -> Vec<String> {
    let mut zone = name;
    loop {
        let answer = net.resolve(zone, Kind::Ns).unwrap_or_default();
        let servers = answer.of(zone).filter_map(|data| if let Data::Server(name) = data { Some(name) } else { None });
        let servers: Vec<String> = servers.take(SERVERS).cloned().collect();
        match zone.split_once('.') {
            Some((_, above)) if servers.is_empty() => zone = above,
            _ => return servers,
        }
    }
}

fn addresses_of(server: &str, net: &mut dyn Ask) -> Vec<IpAddr> {
    let mut found = vec![];
    for kind in [Kind::A, Kind::Aaaa] {
        let answer = net.resolve(server, kind).unwrap_or_default();
        // Whoever is led on to another name is told that name's addresses in the same answer.
        found.extend(answer.records.iter().filter_map(|record| match record.data {
            Data::Address(address) => Some(address),
            _ => None,
        }));
    }
    found
}

struct Net {
    resolvers: Vec<SocketAddr>,
    /// Where the servers of zones listen.
    port: u16,
    wait: Duration,
    start: Instant,
}

#[allow(clippy::disallowed_methods, reason = "this door's own time limit")]
fn now() -> Instant {
    Instant::now()
}

impl Ask for Net {
    fn resolve(&mut self, name: &str, kind: Kind) -> Option<Answer> {
        let answers = |server: &SocketAddr| self.exchange(*server, name, kind, true);
        self.resolvers.iter().filter_map(answers).find(Answer::is_clear)
    }

    fn ask(&mut self, server: IpAddr, name: &str) -> Option<Answer> {
        self.exchange(SocketAddr::new(server, self.port), name, Kind::Txt, false)
    }
}

impl Net {
    /// Twice, because packets get lost; a server that can't be reached says so at once.
    fn exchange(&self, server: SocketAddr, name: &str, kind: Kind, recurse: bool) -> Option<Answer> {
        let mut id = [0; 2];
        SystemRandom::new().fill(&mut id).ok()?;
        let question = dns::question(u16::from_ne_bytes(id), name, kind, recurse)?;
        for _ in 0..2 {
            if self.start.elapsed() > WHOLE {
                return None;
            }
            match self.packet(server, &question) {
                Ok(answer) if answer.truncated => return self.stream(server, &question).ok().flatten(),
                Ok(answer) => return Some(answer),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn packet(&self, server: SocketAddr, question: &[u8]) -> io::Result<Answer> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        socket.send(question)?;
        let (asked, mut packet) = (now(), [0; 4096]);
        loop {
            let left = self.wait.saturating_sub(asked.elapsed()).max(Duration::from_millis(1));
            socket.set_read_timeout(Some(left))?;
            let count = socket.recv(&mut packet)?;
            // Anybody can send packets.
            if let Some(answer) = dns::answer(packet.get(..count).unwrap_or_default(), question) {
                return Ok(answer);
            }
        }
    }

    /// RFC 7766: the same, with a length before it.
    fn stream(&self, server: SocketAddr, question: &[u8]) -> io::Result<Option<Answer>> {
        let mut stream = TcpStream::connect_timeout(&server, self.wait)?;
        stream.set_read_timeout(Some(self.wait))?;
        stream.set_write_timeout(Some(self.wait))?;
        let length = u16::try_from(question.len()).unwrap_or_default();
        stream.write_all(&[&length.to_be_bytes(), question].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut packet)?;
        Ok(dns::answer(&packet, question))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::dns::Record;
    use std::net::TcpListener;
    use std::thread::spawn;

    /// A little Internet: who says what of which name.
    #[derive(Default)]
    struct World {
        resolvers: Vec<(&'static str, Kind, Data)>,
        servers: Vec<(&'static str, &'static str, Option<Data>)>,
        /// Servers that are silent, and those that are not of the zone.
        silent: Vec<&'static str>,
        lame: Vec<&'static str>,
        asked: Vec<String>,
    }

    impl Ask for World {
        fn resolve(&mut self, name: &str, kind: Kind) -> Option<Answer> {
            let data = self.resolvers.iter().filter(|(owner, of, _)| *owner == name && *of == kind);
            let records = data.map(|(owner, _, data)| Record { owner: (*owner).into(), data: data.clone() });
            (!self.resolvers.is_empty()).then(|| Answer { records: records.collect(), ..Answer::default() })
        }

        fn ask(&mut self, server: IpAddr, name: &str) -> Option<Answer> {
            let server = server.to_string();
            self.asked.push(format!("{server} {name}"));
            let data = self.servers.iter().filter(|(at, owner, _)| *at == server && *owner == name);
            let records =
                data.filter_map(|(_, owner, data)| Some(Record { owner: (*owner).into(), data: data.clone()? }));
            let authoritative = !self.lame.contains(&server.as_str());
            let answer = Answer { records: records.collect(), authoritative, ..Answer::default() };
            (!self.silent.contains(&server.as_str())).then_some(answer)
        }
    }

    const NAME: &str = "_acme-challenge.a.example";
    const THERE: &str = "x.dns.example";

    fn text(text: &str) -> Option<Data> {
        Some(Data::Text(text.into()))
    }

    fn server(name: &str) -> Data {
        Data::Server(name.into())
    }

    fn address(text: &str) -> Data {
        Data::Address(text.parse().unwrap())
    }

    fn world() -> World {
        World {
            resolvers: vec![
                ("example", Kind::Ns, server("ns.nic.example")),
                ("a.example", Kind::Ns, server("ns1.a.example")),
                ("a.example", Kind::Ns, server("ns2.a.example")),
                ("ns1.a.example", Kind::A, address("192.0.2.1")),
                ("ns1.a.example", Kind::Aaaa, address("2001:db8::1")),
                ("ns2.a.example", Kind::Aaaa, address("2001:db8::2")),
                ("dns.example", Kind::Ns, server("ns.dns.example")),
                ("ns.dns.example", Kind::A, address("192.0.2.3")),
            ],
            servers: vec![
                ("192.0.2.1", NAME, text("other")),
                ("192.0.2.1", NAME, text("ours")),
                ("2001:db8::1", NAME, text("ours")),
                ("2001:db8::2", NAME, text("ours")),
                ("192.0.2.3", THERE, text("ours")),
            ],
            ..World::default()
        }
    }

    fn seen(world: &mut World) -> Seen {
        look_for(&[Txt { name: NAME.into(), value: "ours".into() }], world)
    }

    #[test]
    fn each_server_of_the_nearest_zone_is_asked_itself() {
        let mut all = world();
        assert_eq!(seen(&mut all), Seen::All);
        assert_eq!(all.asked, [format!("192.0.2.1 {NAME}"), format!("2001:db8::2 {NAME}")]);
        let mut late = world();
        late.servers.pop();
        late.servers.pop();
        assert_eq!(seen(&mut late), Seen::Missing(format!("ns2.a.example does not show the TXT record at {NAME}")));
    }

    #[test]
    fn a_server_that_is_silent_or_not_of_the_zone_says_nothing() {
        let mut one = World { silent: vec!["192.0.2.1"], lame: vec!["2001:db8::2"], ..world() };
        one.servers.retain(|(at, ..)| *at != "2001:db8::2");
        assert_eq!(seen(&mut one), Seen::All, "its other address has it, and nobody denies it");
        let mut none = World { silent: vec!["192.0.2.1", "2001:db8::1", "2001:db8::2"], ..world() };
        assert_eq!(seen(&mut none), Seen::Nothing(format!("no server for {NAME} answers")));
        none.resolvers.push((NAME, Kind::Txt, Data::Text(b"ours".to_vec())));
        assert_eq!(seen(&mut none), Seen::All, "by the machine's own resolver");
        let why = "no resolver of this machine (/etc/resolv.conf) answers";
        assert_eq!(seen(&mut World::default()), Seen::Nothing(why.into()));
        let mut lost = world();
        lost.resolvers.retain(|(_, kind, _)| *kind != Kind::Ns);
        let why = format!("the servers for {NAME} are not to be found from here");
        assert_eq!(seen(&mut lost), Seen::Nothing(why));
    }

    #[test]
    fn another_name_is_followed_and_not_for_ever() {
        let alias = |to: &str| Data::Alias(to.into());
        let mut by_resolver = world();
        by_resolver.resolvers.push((NAME, Kind::Cname, alias(THERE)));
        assert_eq!(seen(&mut by_resolver), Seen::All);
        assert_eq!(by_resolver.asked, [format!("192.0.2.3 {THERE}")]);
        let mut by_server = world();
        by_server.servers.retain(|(_, name, _)| *name == THERE);
        by_server.servers.push(("192.0.2.1", NAME, Some(alias(THERE))));
        assert_eq!(seen(&mut by_server), Seen::All);
        let mut circle = world();
        circle.resolvers.push((NAME, Kind::Cname, alias(NAME)));
        assert_eq!(seen(&mut circle), Seen::Nothing(format!("{NAME} leads on and on")));
    }

    fn net(resolvers: Vec<SocketAddr>, port: u16) -> Net {
        Net { resolvers, port, wait: Duration::from_millis(200), start: now() }
    }

    /// The packet that says this in reply, with the flags of a server that knows.
    fn reply(question: &[u8], flags: u8, data: &[u8]) -> Vec<u8> {
        let mut packet = question.to_vec();
        (packet[2], packet[7]) = (0x84 | flags, 1);
        let mut packet = [&packet[..], &[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, data.len() as u8], data].concat();
        packet[3] = 0;
        packet
    }

    #[test]
    fn packets_are_sent_again_strangers_are_not_heard_and_what_is_cut_off_comes_by_tcp() {
        // A port that is free for both.
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        let server = spawn(move || {
            let mut packet = [0; 512];
            let mut hear = || {
                let (count, from) = socket.recv_from(&mut packet).unwrap();
                (packet[..count].to_vec(), from)
            };
            // The first is lost.
            hear();
            let (asked, from) = hear();
            let mut other = reply(&asked, 0, b"\x05wrong");
            other[0] ^= 1;
            socket.send_to(&other, from).unwrap();
            socket.send_to(&reply(&asked, 2, b""), from).unwrap();
            let mut stream = listener.accept().unwrap().0;
            let mut asked = vec![0; asked.len() + 2];
            stream.read_exact(&mut asked).unwrap();
            let packet = reply(&asked[2..], 0, b"\x04ours");
            stream.write_all(&[&(packet.len() as u16).to_be_bytes(), &packet[..]].concat()).unwrap();
        });
        let answer = net(vec![], address.port()).ask(address.ip(), "a.example").unwrap();
        assert_eq!(answer.records[0].data, Data::Text(b"ours".to_vec()));
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_there_costs_no_time_and_the_next_resolver_is_asked() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = socket.local_addr().unwrap();
        let server = spawn(move || {
            let mut packet = [0; 512];
            let (count, from) = socket.recv_from(&mut packet).unwrap();
            assert_eq!(packet[2], 1, "a resolver is to ask others");
            socket.send_to(&reply(&packet[..count], 0, b"\x04ours"), from).unwrap();
        });
        let answer = net(vec![gone, there], 1).resolve("a.example", Kind::Txt).unwrap();
        assert!(answer.is_clear());
        server.join().unwrap();
        assert_eq!(net(vec![], gone.port()).ask(gone.ip(), "a.example"), None);
        assert_eq!(net(vec![], gone.port()).ask(gone.ip(), "a..example"), None, "no name");
        let mut over = Net { start: now() - WHOLE * 2, ..net(vec![there], 1) };
        assert_eq!(over.resolve("a.example", Kind::Txt), None);
    }
}
