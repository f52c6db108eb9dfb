#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::recorder::h264(data));
