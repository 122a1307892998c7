//! edgemd: managed domains for edge routers and appliances.
//!
//! Text becomes *wants*, flash becomes *holdings*; one pure function compares them and names the next *step*; one loop
//! takes that step through a *door* and writes down what happened.
//!
//! # Floors
//!
//! Imports only go down; rooms on the doors' floor don't know each other (`tests/floors.rs` holds both).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)
)]

/// Floor 0, nouns: plain data, total functions, no effects.
pub mod words {
    pub mod answers;
    pub mod board;
    pub mod cert;
    pub mod config;
    pub mod fault;
    pub mod name;
    pub mod time;
}

/// Floor 1, thinking: values in, values out.
pub mod rules {
    pub mod control;
    pub mod export;
    pub mod http1;
    pub mod pem;
    pub mod plan;
    pub mod record;
    pub mod status;
    pub mod x509;
    /// One order with a CA.
    pub mod acme {
        pub mod flow;
        pub mod headers;
        pub mod jws;
        pub mod problem;
        pub mod types;
    }
}

/// Floor 3, touching: one outside thing each.
pub mod doors {
    pub mod clock;
    pub mod control;
    pub mod dice;
    pub mod disk;
    pub mod https;
    pub mod keys;
    pub mod log;
    pub mod port80;
    pub mod script;
}

/// Floor 4, living: the only code that knows two doors.
pub mod house {
    pub mod boot;
    pub mod errand;
    pub mod front_desk;
    pub mod jobs;
    pub mod keeper;
    pub mod lives;
    pub mod orders;
    pub mod preview;
    pub mod store;
    pub mod tell;
}

pub mod cli;
