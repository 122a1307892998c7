#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edgemd::rules::dns::fuzz(bytes));
