//! fork, vfork and posix_spawn while other threads allocate.

use zonal_tests::{Program, is_zonal};

#[test]
fn ten_thousand_forks_of_a_busy_process() {
    let zonal = i32::from(is_zonal());
    Program::c("fork.c")
        .args(["count=10000", "every=25"])
        .arg(format!("zonal={zonal}"))
        .timeout(600)
        .run()
        .success()
        .quiet();
}

/// The thread that forks cannot stop the others at their gates.
#[test]
fn forks_of_a_thread_under_a_late_filter() {
    for filter in ["EPERM:membarrier", "ENOSYS:membarrier,madvise,process_madvise"] {
        Program::c("fork.c")
            .args(["count=400", "every=25"])
            .arg(format!("late={filter}"))
            .arg(format!("zonal={}", i32::from(is_zonal())))
            .timeout(600)
            .run()
            .success()
            .quiet();
    }
}

/// As a server with a process for each connection: children that come and go beside a large heap share it.
#[test]
fn children_share_what_the_parent_has() {
    if is_zonal() {
        Program::c("prefork.c").timeout(300).run().success().quiet();
    }
}

#[test]
fn vfork_and_posix_spawn() {
    Program::c("spawn.c").run().success().quiet();
}

#[test]
fn a_shell_that_forks() {
    let script = r#"
        for ((i = 0; i < 1000; i++)); do
            x=$(echo $i; exit 3)
            [[ $? = 3 && $x = $i ]] || { echo "wrong: $x"; exit 1; }
        done
        y=$(for ((i = 0; i < 2000; i++)); do echo "line $i"; done | while read -r a b; do
            ((b % 2)) && echo "$a$b"
        done | (while read -r l; do n+=x$l; done; echo ${#n}))
        for ((i = 0; i < 20; i++)); do (sleep 0.0$i; exit $i) & done
        wait
        echo "done $y"
    "#;
    Program::new("bash").args(["-c", script]).run().success().quiet().stdout_is("done 8445\n");
}
