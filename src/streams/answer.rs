//! Small answers of our own.

use crate::streams::duplex::Duplex;
use core::fmt::Write;
use smol::io::AsyncWriteExt;
use std::io;

/// One answer, whole in memory.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The code and its words: `404 Not Found`.
    pub status: &'static str,
    /// More lines of the head, each with its end.
    pub fields: &'a str,
    pub kind: &'static str,
    pub body: &'a str,
}

impl<'a> Answer<'a> {
    /// A sentence for people.
    pub fn text(status: &'static str, body: &'a str) -> Self {
        Self { status, fields: "", kind: "text/plain; charset=utf-8", body }
    }
}

/// Which parts of an answer are sent, and whether another may follow on the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// The answer to HEAD is a head.
    pub head_only: bool,
    pub keep: bool,
}

impl Manner {
    /// The last word on a connection.
    pub const LAST: Self = Self { head_only: false, keep: false };
}

/// Sends it in one write; unless the connection is kept, its end has to follow.
pub async fn send(stream: &mut dyn Duplex, answer: &Answer<'_>, manner: Manner) -> io::Result<()> {
    let text = text(answer, manner);
    let early = if manner.keep { 0 } else { stream.last(text.as_bytes()) };
    stream.write_all(text.as_bytes().get(early..).unwrap_or_default()).await?;
    stream.flush().await
}

/// Its bytes.
pub fn text(answer: &Answer<'_>, manner: Manner) -> String {
    let Answer { status, fields, kind, body } = answer;
    let mut text = String::with_capacity(160 + fields.len() + body.len());
    let length = body.len();
    // Writing to a String cannot fail.
    let _ = write!(text, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{fields}");
    text.push_str(if manner.keep { "\r\n" } else { "Connection: close\r\n\r\n" });
    if !manner.head_only {
        text.push_str(body);
    }
    text
}
