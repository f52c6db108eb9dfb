#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::recorder::vp8(data));
