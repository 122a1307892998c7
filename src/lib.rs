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
    pub mod cert;
    pub mod config;
    pub mod fault;
    pub mod name;
    pub mod time;
}

/// Floor 1, thinking: values in, values out.
pub mod rules {
    /// One order with a CA.
    pub mod acme {
        pub mod flow;
        pub mod types;
    }
    /// The operator's text.
    pub mod conf {
        mod apache;
        mod draft;
        pub mod lex;
        mod mean;
        mod meet;
        pub mod print;
        pub mod read;
        mod set;
        pub mod table;
        mod url;
        mod values;
    }
}

/// Floor 3, touching: one outside thing each.
pub mod doors {
    pub mod clock;
    pub mod dice;
    pub mod disk;
    pub mod https;
    pub mod script;
    pub mod text;
}
