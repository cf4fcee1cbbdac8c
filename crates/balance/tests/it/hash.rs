//! XXH64 against values of the reference implementation.

use balance::hash;

#[test]
fn agrees_with_the_reference_implementation() {
    let data: Vec<u8> = (0..200_u32).map(|at| (at * 7 + 3) as u8).collect();
    let check = |len: usize, expected: u64| assert_eq!(hash::bytes(&data[..len]), expected, "{len} bytes");
    check(0, 0xef46_db37_51d8_e999);
    check(1, 0x1f25_c8d0_bc1f_4bb6);
    check(3, 0x31d2_363f_52e5_64c9);
    check(4, 0x9bb6_4b7d_66ee_9fda);
    check(5, 0xc760_8efd_db70_51fe);
    check(7, 0x9a7b_1499_59ce_60d8);
    check(8, 0xdab9_9d95_c6f9_0092);
    check(9, 0x170b_b6bf_975b_4c02);
    check(12, 0xd52e_4078_33af_5133);
    check(13, 0xf78b_0313_08f5_bfc8);
    check(31, 0xa2aa_5f33_cc4a_6119);
    check(32, 0x23c3_c17e_f790_fd97);
    check(33, 0x50a7_cfc7_ba58_8784);
    check(40, 0xb620_306b_253d_76b6);
    check(63, 0x5e3e_54b4_31c7_493c);
    check(64, 0x0eb6_4b3e_f6ee_b01f);
    check(65, 0xa383_b724_b2bd_12f1);
    check(100, 0xa61f_8d4c_170f_e531);
    check(200, 0xa6cb_3c09_bc82_9b24);
}

#[test]
fn an_endpoint_is_known_by_its_address() {
    assert_eq!(hash::endpoint_id("10.0.0.1:8080"), 0xcb97_2177_068e_b685);
    assert_ne!(hash::endpoint_id("10.0.0.1:8080"), hash::endpoint_id("10.0.0.1:8081"));
}
