//! Advisory locks, which a standby takes as any server.

use super::Action;
use crate::generator::Draft;
use crate::script::Step;

pub(super) const ACTIONS: &[Action] = &[
    Action { weight: 4, write: lock },
    Action { weight: 1, write: lock_by_call },
    Action { weight: 1, write: several_reasons },
];

fn lock(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_lock(1, 2)",
        "SELECT pg_try_advisory_lock(3)",
        "SELECT pg_advisory_lock_shared(4)",
        "SELECT pg_advisory_xact_lock(5)",
        "SELECT pg_advisory_unlock(1)",
        "SELECT pg_advisory_unlock_all()",
        "SELECT pg_catalog.pg_advisory_lock(id) FROM items",
        "SELECT 1 WHERE pg_try_advisory_lock(6)",
        "DO $$ BEGIN PERFORM pg_advisory_lock(7); END $$",
        "SELECT take_lock(8)",
        "SELECT pg_advisory_unlock(99)",
    ]);
    draft.query(sql);
}

/// OIDs of pg_advisory_lock(int8) and pg_advisory_unlock(int8), pg_proc.dat.
const LOCK: u32 = 2880;
const UNLOCK: u32 = 2884;

fn lock_by_call(draft: &mut Draft) {
    let function = draft.random.pick(&[LOCK, LOCK, UNLOCK]);
    draft.push(Step::Call { function, arguments: vec!["9".to_owned()] });
}

fn several_reasons(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "SELECT pg_advisory_lock(11), set_config('app.tenant', 'b', false)",
        "SELECT pg_advisory_lock(12), setseed(0.5)",
        "SELECT set_tenant('a'), pg_advisory_lock(13)",
        "SELECT setseed(0.25)",
    ]);
    draft.query(sql);
    if draft.random.chance(60) {
        let sql = draft.random.one(&["DISCARD ALL", "SELECT pg_advisory_unlock_all()", "RESET ALL"]);
        draft.query(sql);
        draft.make_move();
    }
    if draft.random.chance(50) {
        draft.query("SELECT random()  BETWEEN 0 AND 1");
    }
}
