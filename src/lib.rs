//! edgemd: managed domains for edge routers and appliances.
//!
//! Text becomes *wants*, flash becomes *holdings*; one pure function compares them and names the next *step*; one loop
//! takes that step through a *door* and writes down what happened.
//!
//! # Vocabulary
//!
//! An *MD* (managed domain) is what the operator configures: names that share a certificate, and one certificate for
//! each kind of key. A [`Want`](words::cert::Want) is one such certificate asked for, a [`Held`](words::cert::Held) one
//! that we own, [`Tried`](words::cert::Tried) what came of the efforts, a [`Slot`](words::cert::Slot) its place in the
//! store. A [`Fault`](words::fault::Fault) is in the operator's text, a [`Refusal`](words::fault::Refusal) comes from
//! the CA, a [`Trouble`](words::fault::Trouble) from the world.
//!
//! # The way of one certificate
//!
//! 1. `rules::conf` reads the file into a [`Config`](words::config::Config); each of its MDs says what it wants.
//! 2. `house::store` reads what is held and what was tried.
//! 3. [`rules::plan::decide`] compares the three and names a [`Step`](words::cert::Step); [`rules::crowd`] keeps what many
//!    devices, or many certificates of one, would do at once from being done at once.
//! 4. On `Order`, `house::orders` makes a key and sets an errand going: `rules::acme::flow` says turn by turn what to
//!    ask the CA and what to answer on port 80, `house::errand` does it.
//! 5. The chain arrives: `rules::x509` proves it, the store commits it in one record. From here on it is held.
//! 6. [`decide`](rules::plan::decide) is asked again and says `Tell`, at once or when the activation of a renewed
//!    certificate has come: `house::exports` writes the files for other programs, `house::tell` runs the operator's
//!    commands and looks at what is served, until all of it is done.
//! 7. It is asked again and says `Wait`: `house::keeper` naps, and is back at 3 when the renewal window opens.
//! 8. With MDStapling `house::staple` asks the responder of its CA about it before the last answer ends, `rules::ocsp`
//!    proves the answer, and it goes with the handshakes.
//!
//! Between the certificate and the telling, and then every few hours, it says `Ask`: `house::inquiries` asks the CA when it
//! wants what is held to be renewed, on the line of an order that has just ended or for all certificates of that CA together.
//! What it says is kept in memory (`rules::acme::advice`), and 3 counts with it.
//!
//! What went wrong on the way goes to [`rules::plan::settle`], which says what to remember of it. A power cut between
//! any two of these steps restarts at 2 and comes to the same next step.
//!
//! # Floors
//!
//! Imports only go down; rooms on the doors' floor don't know each other (`tests/floors.rs` holds both).
//!
//! The main thread runs everything that faces strangers (port 80, the control socket) on one async executor; the
//! keeper is a second thread of plain blocking code, and each errand's calls to its CA have a thread of their own, because
//! a CA may hang (`doors::https`). Three things are shared between them, each behind its own lock:
//! the [`Answers`](words::answers::Answers) to challenges, the [`Board`](words::board::Board) with the last status, and
//! (with the TLS front) the shelf of certificates.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation),
    deny(clippy::disallowed_methods, clippy::disallowed_types)
)]

/// Floor 0, nouns: plain data, total functions, no effects.
pub mod words {
    pub mod answers;
    pub mod board;
    pub mod cert;
    pub mod config;
    pub mod fault;
    pub mod message;
    pub mod name;
    pub mod secret;
    pub mod sorted;
    pub mod staple;
    pub mod time;
}

/// Floor 1, thinking: values in, values out.
pub mod rules {
    pub mod account;
    pub mod challenge;
    pub mod control;
    pub mod crowd;
    pub mod der;
    pub mod dns;
    pub mod export;
    pub mod forward;
    pub mod http1;
    pub mod import;
    pub mod kin;
    pub mod messages;
    pub mod ocsp;
    pub mod pem;
    pub mod pkcs8;
    pub mod plan;
    pub mod proxy_header;
    pub mod record;
    pub mod redirect;
    pub mod served;
    pub mod status;
    pub mod tame;
    pub mod txt;
    pub mod x509;
    /// One order with a CA.
    pub mod acme {
        pub mod advice;
        pub mod asking;
        pub mod flow;
        pub mod headers;
        pub mod inquiry;
        pub mod jws;
        pub mod pace;
        pub mod problem;
        pub mod proving;
        pub mod turns;
        pub mod types;
        pub mod visit;
    }
    /// The operator's text.
    pub mod conf {
        mod apache;
        mod draft;
        pub mod lex;
        mod mean;
        mod meet;
        pub mod owner;
        pub mod print;
        pub mod read;
        mod set;
        pub mod table;
        pub mod url;
        mod values;
    }
}

/// Floor 2, conversing: async over streams that somebody else opened.
pub mod streams {
    pub mod answer;
    pub mod duplex;
    pub mod inlet;
    pub mod proxy;
    pub mod tls;
}

/// Floor 3, touching: one outside thing each.
pub mod doors {
    pub mod clock;
    pub mod control;
    pub mod dice;
    pub mod disk;
    pub mod dns;
    pub mod front;
    pub mod https;
    pub mod keys;
    pub mod log;
    pub mod look;
    pub mod script;
    pub mod supervisor;
    pub mod text;
}

/// Floor 4, living: the only code that knows two doors.
pub mod house {
    pub mod accounts;
    pub mod alone;
    pub mod boot;
    pub mod errand;
    pub mod errands;
    pub mod exports;
    pub mod front_desk;
    pub mod hooks;
    pub mod import;
    pub mod inquiries;
    pub mod jobs;
    pub mod keeper;
    pub mod lives;
    pub mod messages;
    pub mod orders;
    pub mod own;
    pub mod preview;
    pub mod prune;
    pub mod records;
    pub mod reload;
    pub mod revoke;
    pub mod shelve;
    pub mod staple;
    pub mod store;
    pub mod tell;
    pub mod watch;
    pub mod webroot;
}

pub mod cli;
