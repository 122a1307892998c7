//! The header by which a proxy tells who is there: HAProxy's PROXY protocol, versions 1 (a line of text) and 2 (binary).

use crate::words::config::ProxyProtocol;
use std::net::{IpAddr, SocketAddr};

/// What goes before everything else on a connection to a back end; nothing where it is off.
pub fn of(version: ProxyProtocol, peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    // A socket for both families says IPv4 addresses in IPv6's form.
    let (from, to) = (peer.ip().to_canonical(), local.ip().to_canonical());
    let (ports, addresses) = ((peer.port(), local.port()), (from, to));
    match version {
        ProxyProtocol::Off => vec![],
        ProxyProtocol::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        ProxyProtocol::V2 => binary(addresses, ports),
    }
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and "this is a connection that somebody else made".
const PROXIED: u8 = 0x21;

fn binary((from, to): (IpAddr, IpAddr), ports: (u16, u16)) -> Vec<u8> {
    let (family, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x11, [from.octets(), to.octets()].concat()),
        (from, to) => {
            let wide = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            (0x21, [wide(from), wide(to)].concat())
        }
    };
    let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    let length = u16::try_from(addresses.len() + ports.len()).unwrap_or(0);
    [&SIGNATURE[..], &[PROXIED, family], &length.to_be_bytes(), &addresses, &ports].concat()
}

/// The body of a fuzz target: of any two addresses a back end reads the same two again.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let mut left = bytes.iter().copied().chain(core::iter::repeat(0));
    let mut next = || left.next().unwrap_or(0);
    let wide = next() & 1 == 1;
    let mut socket = || {
        let four: [u8; 4] = core::array::from_fn(|_| next());
        let six: [u8; 16] = core::array::from_fn(|_| next());
        let ip = if wide { IpAddr::from(six) } else { IpAddr::from(four) };
        SocketAddr::new(ip, u16::from_be_bytes([next(), next()]))
    };
    let (peer, local) = (socket(), socket());
    let line = String::from_utf8(of(ProxyProtocol::V1, peer, local)).expect("version 1 is text");
    let line = line.strip_suffix("\r\n").expect("a line");
    assert!(line.len() <= 105, "107 bytes with its end, as the protocol says");
    let words: Vec<&str> = line.split(' ').collect();
    let [_, _, from, to, from_port, to_port] = words[..] else { unreachable!("{line}") };
    let socket = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
    let same = |socket: SocketAddr| SocketAddr::new(socket.ip().to_canonical(), socket.port());
    assert_eq!([socket(from, from_port), socket(to, to_port)], [peer, local].map(|socket| Some(same(socket))));
    let binary = of(ProxyProtocol::V2, peer, local);
    let (head, rest) = binary.split_at(16);
    assert_eq!(head.last().copied().map(usize::from), Some(rest.len()));
    assert!(rest.ends_with(&[peer.port().to_be_bytes(), local.port().to_be_bytes()].concat()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(version: ProxyProtocol, peer: &str, local: &str) -> Vec<u8> {
        of(version, peer.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn lines_of_text() {
        for (peer, local, line) in [
            ("192.0.2.1:40000", "192.0.2.2:443", "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n"),
            ("[::ffff:192.0.2.1]:40000", "[::ffff:192.0.2.2]:80", "PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n"),
            ("[2001:db8::1]:65535", "[2001:db8::2]:443", "PROXY TCP6 2001:db8::1 2001:db8::2 65535 443\r\n"),
        ] {
            assert_eq!(String::from_utf8(of_text(ProxyProtocol::V1, peer, local)).unwrap(), line);
        }
        assert!(of_text(ProxyProtocol::Off, "192.0.2.1:1", "192.0.2.2:2").is_empty());
    }

    #[test]
    fn binary_headers() {
        let four = of_text(ProxyProtocol::V2, "192.0.2.1:40000", "192.0.2.2:443");
        let rest = [0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0x9c, 0x40, 0x01, 0xbb];
        assert_eq!(four, [&b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"[..], &rest].concat());
        let six = of_text(ProxyProtocol::V2, "[2001:db8::1]:1", "[2001:db8::2]:443");
        assert_eq!((six[13], six[14], six[15], six.len()), (0x21, 0, 36, 52));
    }
}
