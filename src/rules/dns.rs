//! DNS on the wire (RFC 1035 §4), as far as it takes to see a TXT record: one question out, the answers to it in.

use crate::words::time::Span;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for (RFC 1035 §3.2.2, RFC 3596 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    A = 1,
    Ns = 2,
    Cname = 5,
    Txt = 16,
    Aaaa = 28,
}

/// An answer, as far as it is one to the question.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// It was too long for its packet: TCP has the whole.
    pub truncated: bool,
    /// From a server of the zone itself.
    pub authoritative: bool,
    /// RFC 1035 §4.1.1: 0 is fine, 3 is "no such name".
    pub code: u8,
    /// The answer section, without records of other kinds than those below.
    pub records: Vec<Record>,
}

/// Names are in lower case, without the last dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub owner: String,
    pub data: Data,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    Address(IpAddr),
    /// The zone's server.
    Server(String),
    /// The name's other name.
    Alias(String),
    /// The strings of a TXT record, joined.
    Text(Vec<u8>),
}

impl Answer {
    /// Whether the server has looked: the name is there, or is not.
    pub fn is_clear(&self) -> bool {
        matches!(self.code, 0 | 3)
    }

    pub fn alias_of<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.of(name).find_map(|data| if let Data::Alias(to) = data { Some(to.as_str()) } else { None })
    }

    /// What is said of this very name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Data> {
        self.records.iter().filter(move |record| record.owner.eq_ignore_ascii_case(name)).map(|record| &record.data)
    }
}

/// The question, as a packet; `recurse`: the server shall ask others for us. `None`: no server knows such a name.
pub fn question(id: u16, name: &str, kind: Kind, recurse: bool) -> Option<Vec<u8>> {
    let mut packet = Vec::with_capacity(64);
    packet.extend(id.to_be_bytes());
    packet.extend([u8::from(recurse), 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        packet.push(length);
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, kind as u8, 0, IN]);
    (name.len() <= 253).then_some(packet)
}

/// The class of the Internet.
const IN: u8 = 1;

/// Reads what came in reply to this question; `None`: it is no reply to it, or none that can be read.
pub fn answer(packet: &[u8], question: &[u8]) -> Option<Answer> {
    let mut reader = Reader { packet, at: 0 };
    let is_ours = reader.u16()? == u16::from_be_bytes([*question.first()?, *question.get(1)?]);
    let flags = reader.u16()?;
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    let asked = packet.get(reader.at..question.len())?;
    let same = asked.eq_ignore_ascii_case(question.get(HEADER..)?);
    // A reply, to a plain question.
    if !is_ours || flags & 0xf800 != 0x8000 || questions != 1 || !same {
        return None;
    }
    reader.at = question.len();
    let mut answer = Answer {
        truncated: flags & 0x0200 != 0,
        authoritative: flags & 0x0400 != 0,
        code: u8::try_from(flags & 15).unwrap_or(15),
        records: vec![],
    };
    for _ in 0..answers {
        match reader.record() {
            Some(record) => answer.records.extend(record),
            // What was cut off is asked for again.
            None if answer.truncated => break,
            None => return None,
        }
    }
    Some(answer)
}

const HEADER: usize = 12;

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.packet.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.skip(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// `Some(None)`: one of a kind that is not wanted here.
    fn record(&mut self) -> Option<Option<Record>> {
        let owner = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        self.skip(4)?;
        let length = usize::from(self.u16()?);
        let start = self.at;
        let data = self.skip(length)?;
        let data = match kind {
            _ if class != u16::from(IN) => None,
            1 => Some(Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into())),
            28 => Some(Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into())),
            16 => Some(Data::Text(strings(data)?)),
            2 | 5 => {
                let name = Reader { packet: self.packet, at: start }.name()?;
                Some(if kind == 2 { Data::Server(name) } else { Data::Alias(name) })
            }
            _ => None,
        };
        Some(data.map(|data| Record { owner, data }))
    }

    /// RFC 1035 §4.1.4. A pointer leads back only, so that every name ends.
    fn name(&mut self) -> Option<String> {
        let (mut name, mut at, mut end) = (String::new(), self.at, None);
        let mut floor = at;
        loop {
            let length = usize::from(*self.packet.get(at)?);
            match length {
                0 => break,
                1..=63 => {
                    if !name.is_empty() {
                        name.push('.');
                    }
                    for byte in self.packet.get(at + 1..at + 1 + length)? {
                        // A dot inside of a label, or worse: no name that we would speak of.
                        let plain = byte.is_ascii_graphic() && *byte != b'.';
                        name.push(char::from(*byte).to_ascii_lowercase());
                        (plain && name.len() <= 253).then_some(())?;
                    }
                    at += 1 + length;
                }
                192.. => {
                    let to = (length & 63) << 8 | usize::from(*self.packet.get(at + 1)?);
                    end = end.or(Some(at + 2));
                    (to < floor).then_some(())?;
                    (at, floor) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at + 1);
        Some(name)
    }
}

fn strings(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut text = vec![];
    while let Some((length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        text.extend_from_slice(string);
        data = rest;
    }
    Some(text)
}

/// The servers that `/etc/resolv.conf` names; without any it is the machine itself.
pub fn resolvers(conf: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = vec![];
    for line in conf.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some("nameserver"), Some(Ok(address))) = (words.next(), words.next().map(str::parse)) {
            found.push(address);
        }
    }
    found.truncate(3);
    if found.is_empty() {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

/// How long to rest before the next look, after one that saw nothing.
pub const PAUSE: Span = Span::secs(5);

/// The body of a fuzz target: whatever comes after the head of an answer, or in its place, it is read to an end, and its
/// names are names.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let asked = question(0, "a.example", Kind::Txt, false).expect("a name that can be asked for");
    let mut packet = asked.clone();
    if let [_, _, flags, code, _, _, _, count, ..] = packet.as_mut_slice() {
        (*flags, *code, *count) = (0x80, 0, bytes.first().copied().unwrap_or(0));
    }
    packet.extend(bytes.iter().skip(1));
    for bytes in [bytes, &packet] {
        let Some(answer) = answer(bytes, &asked) else { continue };
        assert!(answer.records.len() * 11 <= bytes.len(), "no record is made of nothing");
        for record in &answer.records {
            let names = match &record.data {
                Data::Server(name) | Data::Alias(name) => [&record.owner, name],
                Data::Text(text) => {
                    assert!(text.len() <= bytes.len());
                    [&record.owner; 2]
                }
                Data::Address(_) => [&record.owner; 2],
            };
            assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_graphic()) && name.len() <= 253));
        }
    }
    let _ = resolvers(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(question: &[u8], flags: u16, count: u8, tail: &[u8]) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2..4].copy_from_slice(&flags.to_be_bytes());
        packet[7] = count;
        packet.extend(tail);
        packet
    }

    fn record(owner: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
        [owner, &[0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat()
    }

    const OWNER: &[u8] = &[0xc0, 12];

    #[test]
    fn a_question_is_a_packet() {
        let packet = question(0x1234, "_acme-challenge.a.example", Kind::Txt, true).unwrap();
        let said = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x0f_acme-challenge\x01a\x07example\0\0\x10\0\x01";
        assert_eq!(packet, said);
        let long = "x".repeat(64);
        let many = vec!["x"; 128].join(".");
        for name in ["", ".", "a..b", "a.", &long, &many] {
            assert_eq!(question(1, name, Kind::A, false), None, "{name}");
        }
    }

    #[test]
    fn answers_of_each_kind() {
        let asked = question(7, "a.example", Kind::Txt, false).unwrap();
        let tail = [
            record(OWNER, 16, b"\x03one\0\x03two"),
            record(OWNER, 5, b"\x01B\xc0\x0e"),
            record(b"\x07EXAMPLE\0", 2, b"\x02ns\xc0\x0e"),
            record(OWNER, 1, &[192, 0, 2, 1]),
            record(OWNER, 28, &Ipv6Addr::LOCALHOST.octets()),
            record(OWNER, 6, b"whatever"),
        ];
        let asked_elsewhere = [OWNER, &[0, 1, 0, 3, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9]].concat();
        let chaos = answer(&packet(&asked, 0x8400, 2, &[&asked_elsewhere, &tail[3][..]].concat()), &asked).unwrap();
        assert_eq!(chaos.records.len(), 1, "another class is of no concern");
        let read = answer(&packet(&asked, 0x8400, 6, &tail.concat()), &asked).unwrap();
        assert!(read.authoritative && !read.truncated && read.is_clear());
        let data: Vec<_> = read.records.iter().map(|record| (record.owner.as_str(), &record.data)).collect();
        let expected = [
            ("a.example", &Data::Text(b"onetwo".to_vec())),
            ("a.example", &Data::Alias("b.example".into())),
            ("example", &Data::Server("ns.example".into())),
            ("a.example", &Data::Address("192.0.2.1".parse().unwrap())),
            ("a.example", &Data::Address("::1".parse().unwrap())),
        ];
        assert_eq!(data, expected);
        assert_eq!((read.alias_of("A.example"), read.alias_of("b.example")), (Some("b.example"), None));
        let nobody = answer(&packet(&asked, 0x8003, 0, b""), &asked).unwrap();
        assert!(nobody.is_clear() && nobody.code == 3 && !nobody.authoritative);
        assert!(!answer(&packet(&asked, 0x8005, 0, b""), &asked).unwrap().is_clear());
        let cut = answer(&packet(&asked, 0x8600, 2, &tail[0]), &asked).unwrap();
        assert!(cut.truncated && cut.records.len() == 1);
        // A name that stands behind the first 256 bytes.
        let far = [record(OWNER, 16, &[0; 250]), record(b"\x03far\0", 1, &[0; 4]), vec![]];
        let place = asked.len() + far[0].len();
        let far = [far.concat(), record(&[0xc0 | (place >> 8) as u8, place as u8], 1, &[0; 4])].concat();
        let read = answer(&packet(&asked, 0x8000, 3, &far), &asked).unwrap();
        assert_eq!(read.records[2].owner, "far");
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_none() {
        let asked = question(7, "a.example", Kind::Txt, false).unwrap();
        let good = packet(&asked, 0x8000, 1, &record(OWNER, 16, b"\x03one"));
        assert!(answer(&good, &asked).is_some());
        for other in [
            question(8, "a.example", Kind::Txt, false).unwrap(),
            question(7, "b.example", Kind::Txt, false).unwrap(),
            question(7, "a.example", Kind::A, false).unwrap(),
        ] {
            assert_eq!(answer(&good, &other), None);
        }
        assert!(answer(&good, &question(7, "A.EXAMPLE", Kind::Txt, false).unwrap()).is_some());
        assert_eq!(answer(&asked, &asked), None, "the question itself");
        for tail in [
            // Two pointers that lead to each other, and one to itself; a pointer ahead; a reserved length.
            record(&[0xc0, 29, 0xc0, 27], 1, &[0; 4]),
            record(&[0xc0, 27], 1, &[0; 4]),
            record(&[0xc0, 200], 1, &[0; 4]),
            record(&[0x80], 1, &[0; 4]),
            record(OWNER, 1, &[0; 3]),
            record(OWNER, 28, &[0; 4]),
            record(OWNER, 16, b"\x04one"),
            record(OWNER, 2, b"\x03a.b\0"),
            record(OWNER, 2, b"\x03a\x1bb\0"),
            record(OWNER, 2, b"\x03ab"),
            vec![],
        ] {
            assert_eq!(answer(&packet(&asked, 0x8000, 1, &tail), &asked), None, "{tail:?}");
        }
    }

    #[test]
    fn resolvers_are_those_of_the_machine() {
        let conf = "# made by hand\nsearch lan\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # second\nnameserver x\n";
        assert_eq!(resolvers(conf), ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!(resolvers("options ndots:1"), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(resolvers(&"nameserver ::1\n".repeat(9)).len(), 3);
    }
}
