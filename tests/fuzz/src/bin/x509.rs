#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edgemd::rules::x509::fuzz(bytes));
