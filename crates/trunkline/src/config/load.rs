//! Reads all sources in their order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checked::PodApi;
use super::raw::RawConfig;
use super::{Problem, Problems, Source, admin_places, environment, file, flags, keys};

/// File read when none is named and it exists.
pub const DEFAULT_FILE: &str = "trunkline.toml";

/// Stands for standard input where a file is named.
pub const STANDARD_INPUT: &str = "-";

/// Longest configuration file read, in bytes. Thousands of servers fit; a mistaken path does not fill memory.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where to look. Kept by the caller, so that a reload looks in the same places.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    /// What the command line says.
    pub flags: flags::Flags,
    /// The process's environment, or a test's.
    pub environment: HashMap<String, String>,
}

/// What was found.
#[derive(Debug)]
pub struct Loaded {
    /// All sources, one over the other.
    pub raw: RawConfig,
    /// The file read, if any.
    pub file: Option<PathBuf>,
    /// What is wrong with any of them.
    pub problems: Problems,
    /// What is valid and hardly meant.
    pub warnings: Problems,
    /// Where the admin socket may be if no file is named.
    pub admin_places: Vec<PathBuf>,
    /// Where the API of Kubernetes is, in a pod.
    pub pod_api: PodApi,
}

/// Reads defaults, file, environment and flags. What can be read is, even when something is wrong.
#[must_use]
pub fn load(request: &ConfigSources) -> Loaded {
    let (mut raw, mut problems) = (keys::defaults(), Problems::default());
    let named = request.flags.file.clone();
    let path =
        named.clone().or_else(|| Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE)));
    if let Some(path) = &path {
        match read(path) {
            Ok(text) => file::apply(&shown(path), &text, &mut raw, &mut problems),
            Err(error) => {
                let source = named.map_or(Source::Default, |_| Source::Flag("--config"));
                let message = format!("could not read {}: {error}", path.display());
                problems.push(
                    Problem::new(&source, "", message)
                        .hint("`trunkline config default` prints a file to begin with."),
                );
            }
        }
    }
    let variables = request.environment.iter().filter(|(name, _)| name.starts_with(environment::PREFIX));
    environment::apply(
        variables.map(|(name, value)| (name.clone(), value.clone())).collect(),
        &mut raw,
        &mut problems,
    );
    flags::apply(&request.flags, &mut raw, &mut problems);
    let warnings = environment::misspelt(request.environment.keys().map(String::as_str));
    let admin_places = admin_places::usual(&request.environment);
    let variable = |name| request.environment.get(name).filter(|value| !value.is_empty()).cloned();
    let pod_api = variable("KUBERNETES_SERVICE_HOST").zip(variable("KUBERNETES_SERVICE_PORT"));
    Loaded { raw, file: path, problems, warnings, admin_places, pod_api }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = if path == Path::new(STANDARD_INPUT) {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A file's path for messages.
fn shown(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) { "standard input".to_owned() } else { path.display().to_string() }
}

/// The process's environment, without what is not text.
#[must_use]
pub fn process_environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Loaded {
    /// The path of the file read, for messages.
    #[must_use]
    pub fn file_shown(&self) -> Arc<str> {
        self.file.as_ref().map_or_else(|| Arc::from("no file"), |path| Arc::from(shown(path)))
    }
}
