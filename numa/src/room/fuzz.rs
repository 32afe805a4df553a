//! Any texts as those of control groups and nodes: what is read from them makes sense.

use zonal_fuzz::fuzz;

use super::texts;

#[test]
fn cgroup_texts() {
    fuzz("cgroup", |input| {
        let mut parts = input.split(|&b| b == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (groups, limit, stat, node) = (part(), part(), part(), part());
        for group in [texts::group_v1(groups), texts::group_v2(groups)].into_iter().flatten() {
            assert!(group.is_empty() || group.starts_with(b"/"));
            assert!(!group.contains(&b'\n'));
            let mut level = group;
            while let Some(above) = texts::parent(level) {
                assert!(above.len() < level.len() && level.starts_with(above));
                level = above;
            }
            assert!(level.is_empty(), "ends at the root");
        }
        let total = texts::amount(limit).unwrap_or(usize::MAX);
        let inactive_file = texts::field(stat, b"inactive_file").unwrap_or(0);
        for current in [0, 1 << 20, total, usize::MAX] {
            assert!(texts::available(total, current, inactive_file) <= total);
        }
        let _ = texts::Meminfo::default().read(node);
    });
}
