//! A web UI on loopback, as plain as they come, and how it is asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// Answers every GET with two letters, for as long as it is asked; says where it is.
pub fn start() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    });
    port
}

fn serve(mut stream: &TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if line == "\r\n" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()?;
        }
    }
}

/// Asks for `/` on a connection that is kept, and hears the answer: its status.
pub fn ask(stream: &mut (impl Read + Write), host: &str) -> io::Result<u16> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let (mut seen, mut piece) = (Vec::new(), [0; 512]);
    let end = loop {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => seen.extend_from_slice(&piece[..count]),
        }
        if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
    let missing = (end + length.unwrap_or(0)).saturating_sub(seen.len());
    stream.read_exact(&mut vec![0; missing])?;
    head.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
