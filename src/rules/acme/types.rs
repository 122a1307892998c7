//! What goes over the wire of RFC 8555: requests, replies, and the JSON in them.

use crate::words::time::Span;

/// A request, ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub accept: Option<&'static str>,
    /// A JWS in its flattened JSON form; only with [`Method::Post`].
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
}

/// What came back, reduced to the parts that ACME gives a meaning to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<String>,
    pub nonce: Option<String>,
    pub retry_after: Option<Span>,
    /// The values of all Link headers, unread.
    pub links: Vec<String>,
    pub body: Vec<u8>,
}
