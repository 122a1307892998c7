//! What a request and a response lose and gain on their way through us: fields that belong to one connection
//! (RFC 9110 §7.6.1) end here, and the back end learns who asked.

use crate::rules::http1::Head;
use crate::rules::redirect::{HSTS, Hsts};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use std::net::IpAddr;

/// What the back end is told about the client.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub addr: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    pub hsts: Hsts,
}

/// How long a body is, once the message with it is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    None,
    Length(u64),
    /// Known when it ends.
    Open,
}

/// The request as the back end gets it.
pub fn request(request: Request<()>, head: &Head<'_>, client: Client) -> Request<()> {
    let (mut parts, ()) = request.into_parts();
    let fields = &mut parts.headers;
    let upgrade = fields.get(UPGRADE).cloned().filter(|_| upgrades(fields) && !head.body && head.minor == 1);
    let host = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => fields.get(HOST).cloned(),
    };
    let host = host.unwrap_or(HeaderValue::from_static("localhost"));
    end_of_connection(fields);
    fields.remove(EXPECT);
    let claimed: Vec<HeaderName> = fields.keys().filter(|name| claims(name)).cloned().collect();
    for name in claimed {
        fields.remove(name);
    }
    if let Some(upgrade) = upgrade {
        fields.insert(UPGRADE, upgrade);
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    match (head.body, fields.contains_key(CONTENT_LENGTH)) {
        (true, false) => _ = fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        (true, true) => {}
        (false, _) => {
            fields.remove(CONTENT_LENGTH);
            if [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method) {
                fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
    }
    fields.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
    fields.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(client.scheme));
    add_client(fields, client, &host);
    fields.insert(HOST, host);
    if let Some(path) = parts.uri.path_and_query().cloned() {
        parts.uri = Uri::from(path);
    }
    parts.version = Version::HTTP_11;
    Request::from_parts(parts, ())
}

/// The response as the client gets it; `body` is how the library read it, `close` whether the connection ends with it,
/// `hsts` whether the client shall remember that this host is https.
pub fn response(response: Response<()>, body: Body, close: bool, hsts: Hsts) -> Response<()> {
    let (mut parts, ()) = response.into_parts();
    let fields = &mut parts.headers;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = fields.get(UPGRADE).cloned();
        end_of_connection(fields);
        if let Some(upgrade) = upgrade {
            fields.insert(UPGRADE, upgrade);
        }
        fields.remove(CONTENT_LENGTH);
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        let open = body == Body::Open || fields.contains_key(TRANSFER_ENCODING);
        end_of_connection(fields);
        if open || parts.status == StatusCode::NO_CONTENT {
            fields.remove(CONTENT_LENGTH);
        } else if let Body::Length(length) = body {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if close {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    match hsts {
        Hsts::Never => _ = parts.headers.remove(STRICT_TRANSPORT_SECURITY),
        Hsts::Theirs => {}
        Hsts::Add => {
            parts.headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static(HSTS));
        }
    }
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, ())
}

/// Whether the connection that this response came on can be used again.
pub fn reusable(response: &Response<()>, body: Body) -> bool {
    let framed = body != Body::Open || response.headers().contains_key(TRANSFER_ENCODING);
    framed && response.version() == Version::HTTP_11 && !lists(response.headers(), "close")
}

fn upgrades(fields: &HeaderMap) -> bool {
    lists(fields, "upgrade")
}

fn lists(fields: &HeaderMap, option: &str) -> bool {
    options(fields).any(|listed| listed.eq_ignore_ascii_case(option))
}

/// What the Connection fields list.
fn options(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = fields.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Fields that a client must not take from us by naming them in Connection.
const OURS: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

fn end_of_connection(fields: &mut HeaderMap) {
    let listed: Vec<HeaderName> = options(fields).filter_map(|option| option.parse().ok()).collect();
    for name in listed.iter().filter(|name| !OURS.contains(name)) {
        fields.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        fields.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization"] {
        fields.remove(name);
    }
}

/// What a stranger says of himself goes, because nobody before us can be trusted: in each spelling that a back end may take
/// for ours, which for CGI are those with `_`; and so does what CGI takes for the server's own proxy.
fn claims(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with("x-forwarded-") || ["forwarded", "x-real-ip", "proxy"].contains(&&*name)
}

/// Who asked, in both spellings (RFC 7239 §4).
fn add_client(fields: &mut HeaderMap, client: Client, host: &HeaderValue) {
    let addr = client.addr.to_canonical();
    let spelt = if addr.is_ipv6() { format!("\"[{addr}]\"") } else { addr.to_string() };
    let host = host.to_str().unwrap_or_default().replace(['"', '\\'], "");
    let forwarded = format!("for={spelt};host=\"{host}\";proto={}", client.scheme);
    for (name, value) in [("x-forwarded-for", addr.to_string()), ("forwarded", forwarded)] {
        let name = HeaderName::from_static(name);
        match HeaderValue::from_str(&value) {
            Ok(value) => _ = fields.insert(name, value),
            Err(_) => _ = fields.remove(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::http1::{self, Reading};

    fn sent(text: &str) -> Vec<String> {
        let Reading::Complete(head) = http1::read(text.as_bytes()) else { panic!("{text}") };
        let mut reply = ureq_proto::server::Reply::new().unwrap();
        let (_, asked) = reply.try_request(text.as_bytes()).unwrap();
        let client = Client { addr: "192.0.2.7".parse().unwrap(), scheme: "http", hsts: Hsts::Never };
        let out = request(asked.unwrap(), &head, client);
        let mut lines = vec![format!("{} {}", out.method(), out.uri())];
        let mut fields: Vec<String> =
            out.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort();
        lines.extend(fields);
        lines
    }

    const HOST_LINES: [&str; 5] = [
        "forwarded: for=192.0.2.7;host=\"r.example\";proto=http",
        "host: r.example",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: r.example",
        "x-forwarded-proto: http",
    ];

    #[test]
    fn a_request_loses_what_belongs_to_its_connection() {
        let lines = sent(
            "GET /a?b HTTP/1.1\r\nHost: r.example\r\nConnection: keep-alive, X-Secret, Host\r\nX-Secret: 1\r\n\
             Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(lines.first().unwrap(), "GET /a?b");
        assert_eq!(lines.get(1..).unwrap(), HOST_LINES);
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let lines = sent("GET http://r.example:81/x HTTP/1.1\r\nHost: other.example\r\n\r\n");
        assert_eq!(lines.first().unwrap(), "GET /x");
        assert!(lines.contains(&"host: r.example:81".to_owned()), "{lines:?}");
    }

    #[test]
    fn an_upgrade_goes_through() {
        let lines = sent("GET /ws HTTP/1.1\r\nHost: r.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert!(lines.contains(&"connection: upgrade".to_owned()), "{lines:?}");
        assert!(lines.contains(&"upgrade: websocket".to_owned()), "{lines:?}");
        let old = sent("GET /ws HTTP/1.0\r\nHost: r.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(old.get(1..).unwrap(), HOST_LINES, "HTTP/1.0 has none (RFC 9110 §7.8)");
    }

    #[test]
    fn every_body_has_one_length() {
        let post = "POST / HTTP/1.1\r\nHost: r.example\r\n";
        for (more, line) in [
            ("", "content-length: 0"),
            ("Content-Length: 0\r\n", "content-length: 0"),
            ("Content-Length: 5\r\n", "content-length: 5"),
            ("Transfer-Encoding: chunked\r\n", "transfer-encoding: chunked"),
        ] {
            let lines = sent(&format!("{post}{more}\r\n"));
            let framing: Vec<&String> =
                lines.iter().filter(|line| line.starts_with("content-l") || line.starts_with("transfer")).collect();
            assert_eq!(framing, [line], "{more}");
        }
        let lines = sent("GET / HTTP/1.1\r\nHost: r.example\r\nContent-Length: 0\r\n\r\n");
        assert!(!lines.iter().any(|line| line.starts_with("content-length")), "{lines:?}");
    }

    #[test]
    fn what_a_stranger_says_of_himself_goes() {
        let lines = sent(
            "GET / HTTP/1.1\r\nHost: r.example\r\nX-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.2\r\n\
             X-Forwarded-Proto: https\r\nForwarded: for=198.51.100.3\r\nX_Forwarded_For: 198.51.100.4\r\n\
             x-forwarded_proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Ssl: on\r\nX-Real-IP: 198.51.100.5\r\n\
             X_Real_Ip: 198.51.100.6\r\nProxy: http://198.51.100.7/\r\n\r\n",
        );
        assert_eq!(lines.get(1..).unwrap(), HOST_LINES);
    }

    #[test]
    fn a_response_says_its_length_once() {
        let made = |fields: &[(&str, &str)], body, close| {
            let mut builder = Response::builder().status(200);
            for (name, value) in fields {
                builder = builder.header(*name, *value);
            }
            let out = response(builder.body(()).unwrap(), body, close, Hsts::Never);
            let mut lines: Vec<String> =
                out.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            lines.sort();
            lines.join("|")
        };
        assert_eq!(
            made(&[("Content-Length", "5, 5"), ("Keep-Alive", "1")], Body::Length(5), false),
            "content-length: 5"
        );
        assert_eq!(made(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")], Body::Open, false), "");
        assert_eq!(made(&[("Content-Length", "5")], Body::Open, false), "", "it ends with its connection");
        assert_eq!(made(&[("Transfer-Encoding", "chunked")], Body::Length(5), false), "");
        assert_eq!(made(&[("Connection", "close")], Body::Open, true), "connection: close");
        // Over http, too (RFC 6797 §7.2).
        assert_eq!(made(&[("Strict-Transport-Security", "max-age=1")], Body::Open, false), "");
        // What HEAD says of the body that GET would have.
        assert_eq!(made(&[("Content-Length", "5")], Body::None, false), "content-length: 5");
    }

    #[test]
    fn a_connection_is_used_again_when_the_end_of_the_response_was_seen() {
        for (version, field, body, again) in [
            (Version::HTTP_11, None, Body::Length(5), true),
            (Version::HTTP_11, None, Body::None, true),
            (Version::HTTP_11, Some((TRANSFER_ENCODING, "chunked")), Body::Open, true),
            (Version::HTTP_11, None, Body::Open, false),
            (Version::HTTP_11, Some((CONNECTION, "x, Close")), Body::Length(5), false),
            (Version::HTTP_10, None, Body::Length(5), false),
        ] {
            let mut response = Response::builder().version(version).body(()).unwrap();
            response.headers_mut().extend(field.map(|(name, value)| (name, HeaderValue::from_static(value))));
            assert_eq!(reusable(&response, body), again, "{response:?} {body:?}");
        }
    }
}
