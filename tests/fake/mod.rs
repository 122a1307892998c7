//! The world as a test wants it. Each fake is a handle: a clone sees and turns the same thing.
#![allow(dead_code, reason = "no test needs all of them")]

pub mod ca;
