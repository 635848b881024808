//! Cursors, inside transactions and beyond them.

use super::Action;
use crate::generator::Draft;

pub(super) const ACTIONS: &[Action] =
    &[Action { weight: 2, write: cursor }, Action { weight: 2, write: with_hold }];

fn cursor(draft: &mut Draft) {
    draft.query("BEGIN");
    draft.query("DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id");
    for _ in 0..draft.random.below(3) {
        let sql =
            draft.random.one(&["FETCH 1 FROM c", "FETCH ALL FROM c", "MOVE BACKWARD 1 IN c", "CLOSE c"]);
        draft.query(sql);
    }
    let end = draft.random.one(&["COMMIT", "ROLLBACK"]);
    draft.query(end);
}

fn with_hold(draft: &mut Draft) {
    let sql = draft.random.one(&[
        "DECLARE held CURSOR WITH HOLD FOR SELECT id, name FROM items ORDER BY id",
        "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT v FROM orders; COMMIT",
        "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; ROLLBACK",
        "FETCH 1 FROM held",
        "CLOSE held",
        "CLOSE ALL",
        "DO $$ DECLARE c refcursor := 'held'; BEGIN OPEN c FOR SELECT 1; END $$",
    ]);
    draft.query(sql);
}
