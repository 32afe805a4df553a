//! What settings say, and that what is wrong in them says nothing.

use std::string::{String, ToString as _};
use std::vec::Vec;

use super::*;
use zonal_numa::{NodeMask, PolicyMode};

fn parsed(text: &str) -> Settings<'_> {
    let mut settings = Settings::DEFAULT;
    parse(text.as_bytes(), &mut settings, |_| {});
    settings
}

fn complaints(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    check(text.as_bytes(), |wrong| lines.push(wrong.to_string()));
    lines
}

#[test]
fn every_key_is_understood() {
    let s = parsed(
        "stats:exit+live,stats_signal:SIGUSR2,stats_format:json,stats_file:/tmp/a:b,\
         policy:bind=0-1+3,limit:2G,\
         thp:never,numa:off,syscalls:minimal,soft_limit:1G,watermark_scale_factor:3000,watermark_boost_factor:0,node_limit:0=3K+63=4M,\
         pressure:always,purge:off",
    );
    assert_eq!((s.soft_limit, s.pressure, s.purge), (Some(1 << 30), PressureMode::Always, false));
    assert_eq!((s.watermarks.scale, s.watermarks.boost), (3000, 0));
    assert_eq!((s.node_limits[0], s.node_limits[63]), (Some(3 << 10), Some(4 << 20)));
    assert_eq!(s.node_limits.iter().flatten().count(), 2);
    assert!(s.stats_at_exit && s.stats_live && s.minimal_syscalls && !s.numa);
    assert_eq!(s.stats_signal, Some(libc::SIGUSR2));
    assert_eq!(s.stats_format, Format::Json);
    assert_eq!(s.stats_file, Some(&b"/tmp/a:b"[..]));
    assert_eq!(s.policy, Some(MemPolicy::bind(NodeMask::from_bits(0b1011))));
    assert_eq!((s.limit, s.thp), (Some(2 << 30), Thp::Never));
}

#[test]
fn profiles_have_keys() {
    let s =
        parsed("profile:on,profile_rate:64K,profile_file:/x/%p,profile_signal:SIGUSR2,leaks:exit");
    assert!(s.profile && s.leaks_at_exit);
    assert_eq!((s.profile_rate, s.profile_signal), (64 << 10, Some(libc::SIGUSR2)));
    assert_eq!(s.profile_file, Some(&b"/x/%p"[..]));
}

#[test]
fn signals_have_names_and_numbers() {
    let signals = [
        ("USR1", Some(libc::SIGUSR1)),
        ("SIGHUP", Some(libc::SIGHUP)),
        ("WINCH", Some(libc::SIGWINCH)),
        ("12", Some(libc::SIGUSR2)),
        ("RTMIN+2", Some(libc::SIGRTMIN() + 2)),
        ("SIGRTMAX-3", Some(libc::SIGRTMAX() - 3)),
        ("SIGSEGV", None),
        ("9", None),
        ("33", None),
        ("RTMAX-99", None),
        ("RTMIN+", None),
        ("", None),
    ];
    for (text, expected) in signals {
        assert_eq!(signal(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn one_signal_serves_one_purpose() {
    let s = parsed("profile_signal:USR1,stats_signal:SIGUSR1");
    assert_eq!((s.stats_signal, s.profile_signal), (Some(libc::SIGUSR1), None));
    let s = parsed("profile_signal:USR2,stats_signal:10");
    assert_eq!((s.stats_signal, s.profile_signal), (Some(libc::SIGUSR1), Some(libc::SIGUSR2)));
}

#[test]
fn bad_items_are_skipped_and_good_ones_kept() {
    let s = parsed(
        "nonsense,:,limit:,limit:-1,limit:0,limit:99999999999999999999G,thp:maybe,\
                    policy:bind,policy:bind=3-1,policy:bind=64,policy:preferred=0+1,\
                    policy:local=0,stats_file:,stats_signal:SIGKILL,,node_limit:64=1M,\
                    node_limit:0=1M+,node_limit:1M,soft_limit:0,watermark_scale_factor:0,\
                    watermark_boost_factor:-1,stats:exit",
    );
    assert!(s.stats_at_exit);
    assert_eq!((s.limit, s.thp, s.stats_file), (None, Thp::Auto, None));
    assert_eq!((s.watermarks.scale, s.watermarks.boost), (10, 15_000));
    assert_eq!((s.soft_limit, s.node_limits), (None, [None; MAX_NODES]));
    assert_eq!(s.policy, None);
}

#[test]
fn policies_have_nodes_and_weights() {
    let s = parsed("policy:weighted-interleave=0*3+1-2+5*255");
    let nodes = NodeMask::from_bits(0b10_0111);
    assert_eq!(s.policy, Some(MemPolicy { mode: PolicyMode::WeightedInterleave, nodes }));
    assert_eq!(s.weights.0[..6], [3, 0, 0, 0, 0, 255]);
    assert_eq!(parsed("policy:local").policy, Some(MemPolicy::LOCAL));
    assert_eq!(parsed("policy:bind=0,policy:default").policy, None);
    for bad in ["=0*0", "=0*256", "=0*", "=*3", "=0*3*3", "=", "=+"] {
        let value = std::format!("weighted-interleave{bad}");
        assert!(policy(value.as_bytes()).is_none(), "{bad}");
    }
    for bad in ["interleave=0*3", "interleave", "local=1", "preferred=0-1", "default=0"] {
        assert!(policy(bad.as_bytes()).is_none(), "{bad}");
    }
}

#[test]
fn sizes_have_units() {
    let sizes = [("17", 17), ("4K", 4 << 10), ("3m", 3 << 20), ("1T", 1 << 40)];
    for (text, size) in sizes {
        assert_eq!(bytes(text.as_bytes()), Some(size));
    }
    assert_eq!(bytes(b"+4K"), None);
    assert_eq!(bytes(b"K"), None);
}

/// Whoever reads the line knows what to write instead.
#[test]
fn what_is_wrong_is_told_with_what_is_right() {
    for (text, line) in [
        ("limit:2GB", "bad value in 'limit:2GB'; allowed: a size such as 512M or 2G, without a B"),
        ("stats:on", "bad value in 'stats:on'; allowed: exit, live, exit+live or off"),
        (" stats:off", "unknown key in ' stats:off': no spaces around settings"),
        ("foo:bar", "unknown key in 'foo:bar'; all keys: docs/CONFIGURATION.md"),
        ("stats", "no ':' in 'stats'"),
    ] {
        assert_eq!(complaints(text), [line]);
    }
    assert_eq!(complaints("node_limit:0=1G+0=2G").len(), 1, "a node stands twice");
    assert_eq!(complaints("profile_signal:USR1,stats_signal:USR1").len(), 1);
    let long = complaints(&"k".repeat(5000));
    assert!(long[0].len() < 100 && long[0].ends_with("...'"), "{long:?}");
}

/// The words and bounds that a complaint names are taken, and the numbers beyond are not.
#[test]
fn what_complaints_name_is_allowed() {
    for (key, wanted) in KEYS {
        let words = wanted.replace(" or ", ", ");
        let are_words = words.split(", ").all(|word| !word.contains(' ') && !word.contains('='));
        let words = words.replace("+n", "+1").replace("-n", "-1");
        for word in words.split(", ").filter(|_| are_words) {
            assert_eq!(complaints(&std::format!("{key}:{word}")), [""; 0], "{key}");
        }
        if let Some((first, last)) = wanted.split_once(" to ") {
            let beyond = last.parse::<u64>().unwrap() + 1;
            for (number, nr_wrong) in [(first, 0), (last, 0), (&*beyond.to_string(), 1)] {
                let lines = complaints(&std::format!("{key}:{number}"));
                assert_eq!(lines.len(), nr_wrong, "{key}:{number} {lines:?}");
            }
        }
    }
}

/// Any text: nothing of it that was refused is left, and what is read again says the same.
#[test]
fn conf_texts() {
    zonal_fuzz::fuzz("conf", |text| {
        let mut once = Settings::DEFAULT;
        parse(text, &mut once, |wrong| assert!(wrong.to_string().len() < 400));
        assert!(once.limit != Some(0));
        assert!(once.stats_file.is_none_or(|path| !path.is_empty() && !path.contains(&b',')));
        let policy = once.policy;
        assert!(policy.is_none_or(MemPolicy::is_sound), "{policy:?}");
        let mut twice = Settings::DEFAULT;
        parse(text, &mut twice, |_| {});
        parse(text, &mut twice, |_| {});
        assert_eq!(std::format!("{once:?}"), std::format!("{twice:?}"));
    });
}
