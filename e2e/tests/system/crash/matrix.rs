//! The lines of `docs/crash-matrix.md`, written by the run.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Case, Dies};

/// Names the folder for the lines; without it none is written.
const FOLDER: &str = "SLOTRUSH_CRASH_MATRIX";

/// Writes a case's line after it went well.
pub(super) fn note(case: &Case, found: &str) -> Result<()> {
    let Ok(folder) = env::var(FOLDER) else { return Ok(()) };
    let died = match case.dies {
        Dies::Gateway => "gateway twice, then the worker with it",
        Dies::Worker => "worker twice, then the gateway with it",
    };
    let Case { point, standing, provocation, .. } = case;
    let way = provocation.as_str();
    let line = format!("| `{point}` | {died} | {way}: {standing} | {found} | kept |\n");
    let program = if case.dies == Dies::Gateway { "gateway" } else { "worker" };
    fs::write(Path::new(&folder).join(format!("{program} {point}")), line)?;
    Ok(())
}
