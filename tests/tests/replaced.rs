//! Programs and preloads with allocation functions of their own in front of zonal's: each call goes where it
//! goes without zonal.

use std::ffi::OsString;
use std::path::PathBuf;
use zonal_tests::{Outcome, Program, compile_shared, compile_with, is_zonal, library};

/// Runs a program with zonal and these preloads before and behind it.
fn preloaded(program: PathBuf, before: &[&str], behind: &[&str], arguments: &[PathBuf]) -> Outcome {
    let others = |files: &[&str]| files.iter().map(|file| compile_shared(file)).collect::<Vec<_>>();
    let all = others(before).into_iter().chain(library()).chain(others(behind));
    let list: Vec<OsString> = all.map(PathBuf::into_os_string).collect();
    let list = list.join(&OsString::from(":"));
    Program::plain(program).args(arguments).env("LD_PRELOAD", list).run()
}

/// C++ lets a program replace two forms of operator new and delete; all others stand on them.
#[test]
fn two_operators_of_the_program() {
    Program::c("replaced.cpp").run().success().quiet();
}

#[test]
fn a_malloc_of_the_program() {
    Program::c("own_malloc.cpp").run().success().quiet();
}

/// Tools that follow blocks put headers before them; a block that came past such a tool has none.
#[test]
fn a_preload_in_front() {
    let program = zonal_tests::compile("libraries.cpp");
    preloaded(program, &["headers.c"], &[], &[]).success().quiet();
}

/// As where a program is linked with another allocator, and runs on zonal.
#[test]
fn another_allocator_behind() {
    if is_zonal() {
        for before in [&[][..], &["passes_on.c"]] {
            let program = zonal_tests::compile("libraries.cpp");
            preloaded(program, before, &["behind.c"], &[]).success().quiet();
        }
    }
}

/// There is no C++ library then that could be asked.
#[test]
fn a_plugin_with_the_library_inside() {
    let plugin = compile_with("own_library.cpp", &["-shared", "-fPIC", "-static-libstdc++"]);
    for before in [&[][..], &["passes_on.c"]] {
        let program = zonal_tests::compile("loads_own_library.c");
        let outcome = preloaded(program, before, &[], std::slice::from_ref(&plugin));
        outcome.success().quiet();
    }
}

/// A program's own entry for a function is no function of the program.
#[test]
fn a_program_at_a_fixed_place() {
    if is_zonal() {
        let program = compile_with("fixed.cpp", &["-no-pie", "-fno-pie"]);
        let outcome = preloaded(program, &[], &[], &[]).success();
        assert!(outcome.stderr.contains("size"), "the size was not looked at: {}", outcome.stderr);
    }
}

/// Nothing in the first allocation of a process asks for its number by the C library's function.
#[test]
fn a_preload_that_allocates_when_it_is_asked() {
    let program = zonal_tests::compile("libraries.cpp");
    preloaded(program, &["own_getpid.c"], &[], &[]).success().quiet();
}
