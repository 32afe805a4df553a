//! Every rule of every function in the C library and in this test, compared with gimli's reading.

use super::super::module::Module;
use super::*;
use core::ptr;
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, NativeEndian, Register, RegisterRule,
    UnwindContext, UnwindSection as _,
};
use std::string::String;
use std::{format, slice};

fn word(saved: &Saved) -> String {
    match saved {
        Saved::Same => "same".into(),
        Saved::At(offset) => format!("at {offset}"),
        Saved::AtExpression(_) => "expression".into(),
        Saved::Undefined => "undefined".into(),
    }
}

fn gimli_word(rule: &RegisterRule<usize>) -> String {
    match rule {
        RegisterRule::SameValue => "same".into(),
        RegisterRule::Offset(offset) => format!("at {offset}"),
        RegisterRule::Expression(_) => "expression".into(),
        _ => "undefined".into(),
    }
}

/// What gimli has in a row and what we found, in the same words.
fn compare(row: &gimli::UnwindTableRow<usize>, rule: &Rule) -> (String, String) {
    let of = |register: u64| Register(register as u16);
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } if *register == of(reg::SP) => {
            format!("sp {offset}")
        }
        CfaRule::RegisterAndOffset { register, offset } if *register == of(reg::FP) => {
            format!("fp {offset}")
        }
        CfaRule::RegisterAndOffset { .. } => "unknown".into(),
        CfaRule::Expression(_) => "expression".into(),
    };
    let ours = match rule.cfa {
        Cfa::Sp(offset) => format!("sp {offset}"),
        Cfa::Fp(offset) => format!("fp {offset}"),
        Cfa::Expression(_) => "expression".into(),
        Cfa::Unknown => "unknown".into(),
    };
    // No rule at all: by the ABI, the same value.
    let theirs = |register| {
        row.register(of(register)).map_or_else(|| "same".into(), |rule| gimli_word(&rule))
    };
    (
        format!("{cfa}, fp {}, ra {}", theirs(reg::FP), theirs(reg::RA)),
        format!("{ours}, fp {}, ra {}", word(&rule.fp), word(&rule.ra)),
    )
}

/// Compares all of a file; the number of rows and of those with an expression.
fn check(module: &Module) -> (usize, usize) {
    let len = module.end - module.eh_frame_hdr;
    let at = ptr::with_exposed_provenance(module.eh_frame_hdr);
    // SAFETY: a loaded file from its table on.
    let bytes: &'static [u8] = unsafe { slice::from_raw_parts(at, len) };
    // SAFETY: as above.
    let file = unsafe { Bytes::new(module.start, module.eh_frame_hdr, module.end) };
    let hdr_at = module.eh_frame_hdr as u64;
    let bases = BaseAddresses::default().set_eh_frame_hdr(hdr_at);
    let parsed = EhFrameHdr::new(bytes, NativeEndian).parse(&bases, 8).unwrap();
    let gimli::Pointer::Direct(frames_at) = parsed.eh_frame_ptr() else { panic!("indirect") };
    let bases = bases.set_eh_frame(frames_at);
    let frames = EhFrame::new(&bytes[(frames_at - hdr_at) as usize..], NativeEndian);
    let table = parsed.table().unwrap();
    let mut context = UnwindContext::new();
    let (mut rows, mut expressions) = (0, 0);
    let mut entries = table.iter(&bases);
    while let Some((_, fde)) = entries.next().unwrap() {
        let gimli::Pointer::Direct(fde) = fde else { panic!("indirect") };
        let offset = gimli::EhFrameOffset((fde - frames_at) as usize);
        let fde = frames.fde_from_offset(&bases, offset, EhFrame::cie_from_offset).unwrap();
        let mut unwind = fde.rows(&frames, &bases, &mut context).unwrap();
        while let Some(row) = unwind.next_row().unwrap() {
            let pc = row.start_address() as usize;
            if row.start_address() >= row.end_address() {
                continue;
            }
            let found = rule(file, pc).unwrap_or_else(|| panic!("no rule for {pc:#x}"));
            let (theirs, ours) = compare(row, &found);
            assert_eq!(theirs, ours, "{pc:#x}");
            assert_eq!(found.is_signal, fde.is_signal_trampoline());
            rows += 1;
            expressions += usize::from(ours.contains("expression"));
        }
    }
    (rows, expressions)
}

#[test]
fn rules_agree_with_gimli() {
    let own = Module::of((rules_agree_with_gimli as fn()) as *const () as usize).unwrap();
    let libc = Module::of((libc::qsort as *const ()).addr()).unwrap();
    assert!(String::from_utf8_lossy(libc.name()).contains("libc.so"), "{libc:?}");
    let (rows, _) = check(&own);
    assert!(rows > 5_000, "{rows} rows in this test");
    let (rows, expressions) = check(&libc);
    assert!(rows > 5_000 && expressions > 0, "{rows} rows in libc, {expressions} expressions");
}

#[test]
fn an_address_without_code_has_no_rule() {
    let own = Module::of((check as fn(&Module) -> (usize, usize)) as *const () as usize).unwrap();
    // SAFETY: a loaded file from its table on.
    let file = unsafe { Bytes::new(own.start, own.eh_frame_hdr, own.end) };
    assert!(rule(file, own.start).is_none());
    assert!(rule(file, 16).is_none());
    let stack = 0_u64;
    assert!(Module::of(ptr::from_ref(&stack).addr()).is_none());
}

#[test]
fn what_is_cut_or_garbled_ends_without_a_rule() {
    let own = Module::of((rules_agree_with_gimli as fn()) as *const () as usize).unwrap();
    let len = 64 << 10;
    let at = ptr::with_exposed_provenance::<u8>(own.eh_frame_hdr);
    // SAFETY: this test's own tables are larger than that.
    let original = unsafe { slice::from_raw_parts(at, len) };
    let mut seed = 1_u64;
    for round in 0..2000 {
        let mut copy = original.to_vec();
        for _ in 0..round % 50 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % len;
            copy[at] = (seed >> 20) as u8;
        }
        let start = copy.as_ptr().expose_provenance();
        let end = start + (seed >> 40) as usize % len;
        // SAFETY: a part of the copy.
        let file = unsafe { Bytes::new(start, start, end) };
        // It may find something; it must not read beyond, overflow or run on for ever.
        let _ = rule(file, start.wrapping_add((seed >> 44) as usize));
        let _ = evaluate(file, Registers { pc: 0, sp: 0, fp: 0 }, |_| None);
    }
}

#[test]
fn expressions_are_worth_what_they_say() {
    let registers = Registers { pc: 0x1007, sp: 0x8000, fp: 0x9000 };
    let value = |code: &[u8]| {
        let start = code.as_ptr().expose_provenance();
        // SAFETY: the slice.
        let code = unsafe { Bytes::new(start, start, start + code.len()) };
        evaluate(code, registers, |at| Some(at + 1))
    };
    // The entry of a PLT: sp + 8 + (((pc & 15) >= 11) << 3), for pc & 15 = 7.
    #[cfg(target_arch = "x86_64")]
    {
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(value(&plt), Some(0x8008));
        // A realigned stack: what lies 8 below the frame pointer.
        assert_eq!(value(&[0x76, 0x78, 0x06]), Some(0x9000 - 8 + 1));
    }
    assert_eq!(value(&[0x35, 0x23, 4]), Some(9));
    assert_eq!(value(&[0x35, 0x32, 0x1c]), Some(3));
    assert_eq!(value(&[0x22]), None, "nothing to add");
    assert_eq!(value(&[0x30; 9]), None, "too deep");
    assert_eq!(value(&[]), None);
}
