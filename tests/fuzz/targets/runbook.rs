//! Feeds what libFuzzer makes to the property of the same name.
#![no_main]

#[expect(dead_code, reason = "the other targets use the rest")]
#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::runbook(data));
