#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| device_flow_proxy::fuzzing::data_answer(input));
