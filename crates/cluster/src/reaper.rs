//! The watcher that cleans up when this process dies without running its destructors.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Reads its standard input until our end of the pipe is gone, however we went; then ends the postmasters that
/// were started for a data directory inside it and removes it. After an orderly end there is nothing left for it to do.
const SCRIPT: &str = r#"
read -r _never_written
each_postmaster() {
    for file in "$1"/*/postmaster.pid; do
        [ -f "$file" ] || continue
        pid=$(head -n 1 "$file")
        tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "${file%/postmaster.pid}" || continue
        kill "-$2" "$pid" 2>/dev/null && running=1
    done
}
[ -d "$1" ] || exit 0
each_postmaster "$1" CONT
each_postmaster "$1" QUIT
tries=0
while running=0; each_postmaster "$1" 0; [ "$running" = 1 ] && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
each_postmaster "$1" KILL
rm -rf -- "$1"
"#;

/// Held as long as the directory is wanted.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
}

impl Reaper {
    /// Watches over `directory`, which must belong to this process alone.
    pub(crate) fn watch(directory: &Path) -> io::Result<Self> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "trunkline-reaper"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C at the terminal must not end it before it has done its work.
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _reaped = self.child.wait();
    }
}
