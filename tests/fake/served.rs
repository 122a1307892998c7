//! The fake CA behind a socket of its own, for a daemon that is a process: plain http on loopback.

use super::ca::FakeCa;
use edgemd::rules::acme::types::{Method, Reply, Request};
use edgemd::words::time::Unix;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

pub struct Served {
    pub ca: FakeCa,
    base: &'static str,
}

impl Served {
    /// It looks for http-01 answers on this port.
    pub fn start(now: fn() -> Unix, http: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        // One for each run of a program that ends soon.
        let base: &'static str = Box::leak(format!("http://127.0.0.1:{port}").into_boxed_str());
        let ca = FakeCa::looking(base, now, move |token| fetch(http, token));
        let served = ca.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ca = served.clone();
                thread::spawn(move || serve(&stream, &ca, base));
            }
        });
        Self { ca, base }
    }

    pub fn directory(&self) -> String {
        format!("{}/directory", self.base)
    }
}

fn fetch(port: u16, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let path = format!("/.well-known/acme-challenge/{token}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Request after request, until the client leaves.
fn serve(stream: &TcpStream, ca: &FakeCa, base: &str) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split(' ');
        let method = match words.next()? {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Post,
        };
        let url = format!("{base}{}", words.next()?);
        let (mut length, mut accept) = (0, None);
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            let Some((name, value)) = field.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            } else if name.eq_ignore_ascii_case("accept") && value.trim() == PEM {
                accept = Some(PEM);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let reply = ca.call(&Request { method, url, accept, body }).ok()?;
        (&*stream).write_all(&bytes(&reply)).ok()?;
    }
}

const PEM: &str = "application/pem-certificate-chain";

fn bytes(reply: &Reply) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    let fields = [("Content-Type", &reply.content_type), ("Location", &reply.location), ("Replay-Nonce", &reply.nonce)];
    for (name, value) in fields {
        if let Some(value) = value {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(wait) = reply.retry_after {
        head.push_str(&format!("Retry-After: {}\r\n", wait.as_secs()));
    }
    [head.as_bytes(), b"\r\n", &reply.body].concat()
}
