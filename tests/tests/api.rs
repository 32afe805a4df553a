//! The exported functions: results, limits, errors, reports, C++ operators, misuse.

use std::path::Path;
use zonal_tests::{Outcome, Program, compile, compile_shared, is_zonal, library};

/// Runs a program of `tests/c` that must pass in silence; tells it whether zonal's own promises hold.
fn passes(file: &str) -> Outcome {
    let zonal = i32::from(is_zonal());
    Program::c(file).arg(format!("zonal={zonal}")).run().success().quiet()
}

#[test]
fn sizes_and_errno() {
    passes("size.c");
}

#[test]
fn alignments_up_to_a_gibibyte() {
    passes("align.c");
}

#[test]
fn realloc_and_calloc() {
    passes("realloc.c");
}

#[test]
fn operators_of_cpp() {
    passes("new.cpp");
}

#[test]
fn first_and_failing_calls_of_zonal_h() {
    if is_zonal() {
        passes("native.c");
    }
}

#[test]
fn memory_of_glibc_and_its_names() {
    passes("libc_mix.c");
}

#[test]
fn before_constructors_and_after_exit_handlers() {
    passes("early.c").stdout_is("end\n");
}

#[test]
fn reports() {
    let outcome = Program::c("info.c").run().success();
    let document = roxmltree::Document::parse(&outcome.stdout)
        .unwrap_or_else(|e| outcome.fail(&format!("malloc_info is not XML: {e}")));
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "malloc");
    assert!(root.attribute("version").is_some());
    assert!(root.descendants().count() > 3, "an empty report: {}", outcome.stdout);
    assert!(!outcome.stderr.is_empty(), "malloc_stats wrote nothing");
}

/// What ends in an abort, for every size that is served in another way.
const SIZES: [usize; 6] = [16, 100, 3000, 30_000, 300_000, 30_000_000];

fn misuse(case: &str, size: usize) {
    misuse_with(case, size, &[]);
}

fn misuse_with(case: &str, size: usize, more: &[&str]) {
    let run = Program::c("bad.c").arg(format!("case={case}")).arg(format!("size={size}"));
    let outcome = run.args(more).run().killed_by(libc::SIGABRT);
    let address = outcome.stdout.lines().next().unwrap_or_default().to_owned();
    let lines = outcome.stderr.lines().filter(|&line| line != "survived").count();
    if lines != 1 || address.is_empty() || !outcome.stderr.to_lowercase().contains(&address) {
        outcome.fail(&format!("{case} of {size}: not one line on stderr with {address}"));
    }
}

#[test]
fn double_free_aborts() {
    if is_zonal() {
        let cases = [
            "double",
            "double-next",
            "double-later",
            "double-far",
            "double-remote",
            "double-both",
            "double-after-exit",
        ];
        for size in SIZES {
            for case in cases {
                misuse(case, size);
                misuse_with(case, size, &["end=exit"]);
            }
        }
    }
}

#[test]
fn interior_free_aborts() {
    if is_zonal() {
        for size in SIZES {
            misuse("interior-odd", size);
            if size > 16 {
                misuse("interior", size);
                misuse("realloc-interior", size);
            }
        }
    }
}

/// What a hit lets pass is reported at the latest when the process ends.
#[test]
fn interior_free_aborts_before_the_end() {
    if is_zonal() {
        for size in [16, 100, 3000, 30_000] {
            for at in [8, 16, size - 1].into_iter().filter(|&at| at < size) {
                for case in ["interior-at", "interior-remote", "interior-thread"] {
                    misuse_with(case, size, &[&format!("at={at}"), "end=exit"]);
                }
            }
        }
    }
}

#[test]
fn free_of_foreign_memory_aborts() {
    if is_zonal() {
        for case in ["stack", "data", "mapped", "low", "non-canonical"] {
            misuse(case, 32);
        }
    }
}

#[test]
fn realloc_of_freed_memory_aborts() {
    if is_zonal() {
        for size in SIZES {
            misuse("realloc-freed", size);
        }
    }
}

#[test]
fn misuse_aborts_with_stderr_closed() {
    if is_zonal() {
        let outcome = Program::c("bad.c").arg("case=stack").close(2).run();
        assert_eq!(outcome.killed_by(libc::SIGABRT).stderr, "");
    }
}

fn plugin_host(deepbind: u8) {
    let plugin = compile_shared("plugin.c");
    Program::c("plugin_host.c")
        .arg(format!("plugin={}", plugin.display()))
        .arg(format!("deepbind={deepbind}"))
        .arg("threads=1")
        .run()
        .success()
        .quiet();
}

#[test]
fn plugins_opened_and_closed() {
    plugin_host(0);
}

#[test]
fn plugins_with_deepbind() {
    plugin_host(1);
}

#[test]
fn opened_at_run_time() {
    if let Some(path) = library() {
        Program::plain(compile("dlopen.c"))
            .arg(format!("library={}", path.display()))
            .run()
            .success()
            .quiet();
    }
}

/// Two copies of the library in one process: the first serves, the second must not disturb it.
#[test]
fn two_instances_in_one_process() {
    let Some(path) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("libzonal-copy.so");
    std::fs::copy(&path, &copy).unwrap();
    Program::c("dlopen.c").arg(format!("library={}", copy.display())).run().success().quiet();
    let both = format!("{}:{}", path.display(), copy.display());
    Program::c("handoff.c").arg("rounds=3000").env("LD_PRELOAD", both).run().success().quiet();
}

/// A hit that begins with a line takes two; further down in a line it would take three.
#[test]
fn hits_begin_with_a_cache_line() {
    let Some(path) = library().filter(|_| is_zonal()) else { return };
    let text =
        Program::plain("nm").args(["-D", "--defined-only"]).arg(&path).run().success().stdout;
    for hit in ["malloc", "free", "_Znwm", "_Znam", "_ZdlPv", "_ZdlPvm"] {
        let line = text.lines().find(|line| line.split_whitespace().nth(2) == Some(hit));
        let addr =
            line.and_then(|line| u64::from_str_radix(line.split_whitespace().next()?, 16).ok());
        assert_eq!(addr.map(|addr| addr % 64), Some(0), "{hit}");
    }
}

/// The exported names of the shared library are the allocator's and nothing else.
#[test]
fn exports() {
    let Some(path) = library().filter(|_| is_zonal()) else { return };
    let text =
        Program::plain("nm").args(["-D", "--defined-only"]).arg(&path).run().success().stdout;
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let names: Vec<&str> =
        names.iter().map(|name| name.split('@').next().unwrap_or(name)).collect();
    let wanted = "malloc calloc realloc free reallocarray memalign aligned_alloc posix_memalign valloc \
        pvalloc malloc_usable_size cfree free_sized free_aligned_sized mallinfo mallinfo2 mallopt \
        malloc_trim malloc_stats malloc_info __libc_malloc __libc_calloc __libc_realloc __libc_free \
        __libc_memalign _Znwm _Znam _ZdlPv _ZdaPv _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t \
        _ZdlPvm _ZdaPvm _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t _ZnwmSt11align_val_t \
        _ZnamSt11align_val_t _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t \
        _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t \
        _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t";
    for name in wanted.split_whitespace() {
        assert!(names.contains(&name), "{name} is not exported by {}", Path::display(&path));
    }
    for name in &names {
        let known = [
            "zonal_",
            "__libc_",
            "__posix_memalign",
            "_Zn",
            "_Zd",
            "dlopen",
            "longjmp",
            "_longjmp",
            "siglongjmp",
            "__longjmp_chk",
        ];
        assert!(
            wanted.contains(name) || known.iter().any(|prefix| name.starts_with(prefix)),
            "{name} should not be exported"
        );
    }
}
