//! `cargo xtask mutants`: takes the guards out one by one and sees that a test fails for each.
//!
//! It works on a copy of the tree under `.slotrush/mutants/`, with a build folder of its own: the
//! work tree is never touched, whatever becomes of this run.

mod copy;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use testkit::{Postgres, Rabbit};

use self::table::asked::ASKED;
use self::table::{Mutant, all};
use crate::command;
use crate::install::ensure_programs;
use crate::interrupt::unless_interrupted;
use crate::lock::Lock;
use crate::workspace::{private_folder, root};

/// A mutant may make its test wait for ever; that is caught as well.
const TEST_MAX: Duration = Duration::from_mins(3);

/// Where the table of the last full run is.
const TABLE: &str = "docs/mutants.md";

/// Options of the trial.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// Only these
    names: Vec<String>,
    /// List them and end
    #[arg(long)]
    list: bool,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// How it went with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// Its test failed, as it must.
    Caught,
    /// Its test did not come to an end, which shows as well.
    Hung,
    /// Its test passed: a test is missing.
    Survived,
}

#[derive(Debug, Serialize)]
struct Trial {
    name: &'static str,
    verdict: Verdict,
    test: String,
    seconds: f64,
}

/// How one run of a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Passed,
    Failed,
    Hung,
}

/// Tries them.
pub(crate) async fn run(options: Mutants) -> Result<()> {
    let chosen = choose(&options.names)?;
    if options.list {
        for mutant in chosen {
            println!("{:<28} {}", mutant.name, mutant.what);
        }
        return Ok(());
    }
    let folder = private_folder().join("mutants");
    let _lock = Lock::take(&folder)?;
    let tree = folder.join("tree");
    let trials = unless_interrupted(try_all(&chosen, &folder, &tree)).await;
    // Whatever happened, the next run begins with the tree as it is.
    let trials = trials?;
    let survivors: Vec<&str> =
        trials.iter().filter(|t| t.verdict == Verdict::Survived).map(|t| t.name).collect();
    println!("{} mutants, {} caught", trials.len(), trials.len() - survivors.len());
    let table = root().join(TABLE);
    let before = verdicts(&fs::read_to_string(&table).unwrap_or_default());
    fs::write(&table, document(&before, &trials)).context("cannot write the table")?;
    println!("the table is in {TABLE}");
    if options.json {
        let summary = serde_json::json!({ "mutants": trials, "survivors": survivors });
        println!("{summary}");
    }
    ensure!(survivors.is_empty(), "a test is missing for: {}", survivors.join(", "));
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Mutant>> {
    for name in names {
        if !all().any(|mutant| mutant.name == name) {
            bail!("there is no mutant {name}; `cargo xtask mutants --list` names them");
        }
    }
    let is_chosen = |mutant: &&Mutant| names.is_empty() || names.iter().any(|n| n == mutant.name);
    Ok(all().filter(is_chosen).collect())
}

async fn try_all(chosen: &[&'static Mutant], folder: &Path, tree: &Path) -> Result<Vec<Trial>> {
    ensure_programs().await?;
    println!("copying the tree, starting private servers");
    copy::renew(&root(), tree)?;
    let (postgres, rabbit) =
        tokio::try_join!(Postgres::start_scratch(folder), Rabbit::start_scratch(folder))?;
    let bench = Workbench {
        tree: tree.to_path_buf(),
        target: folder.join("target"),
        log: folder.join("last.log"),
        settings: [
            ("SLOTRUSH_TEST_POSTGRES_URL", postgres.url()),
            ("SLOTRUSH_TEST_AMQP_URL", rabbit.url()),
        ],
    };
    println!("the tests as they are must pass (the first build takes minutes)");
    for mutant in chosen {
        bench.build(mutant).await.with_context(|| format!("{}: unchanged", mutant.name))?;
        let ending = bench.test(mutant).await?;
        let (name, test) = (mutant.name, test_of(mutant));
        ensure!(ending == Ending::Passed, "{name}: unchanged, {test} ends as {ending:?}");
    }
    let mut trials = Vec::with_capacity(chosen.len());
    for (number, mutant) in (1..).zip(chosen) {
        let started = Instant::now();
        let verdict = bench.try_one(mutant).await?;
        let seconds = started.elapsed().as_secs_f64();
        let Mutant { name, .. } = mutant;
        let word = format!("{verdict:?}").to_lowercase();
        println!("{number:>3}/{} {name:<28} {word:<9} {seconds:>6.1} s", chosen.len());
        trials.push(Trial { name, verdict, test: test_of(mutant), seconds });
    }
    if let Some(last) = chosen.last() {
        // The servers lived to the end, so that nothing was caught by their death.
        bench.build(last).await?;
        let ending = bench.test(last).await?;
        ensure!(ending == Ending::Passed, "at the end, unchanged, {} does not pass", test_of(last));
    }
    Ok(trials)
}

/// Where mutants are built and tried.
struct Workbench {
    tree: PathBuf,
    target: PathBuf,
    log: PathBuf,
    settings: [(&'static str, String); 2],
}

impl Workbench {
    async fn try_one(&self, mutant: &Mutant) -> Result<Verdict> {
        let patched = patched(mutant, &self.tree)?;
        for (file, _, mutated) in &patched {
            fs::write(file, mutated)?;
        }
        let tried = async {
            self.build(mutant).await.with_context(|| format!("{} does not build", mutant.name))?;
            self.test(mutant).await
        };
        let ending = tried.await;
        for (file, original, _) in &patched {
            fs::write(file, original)?;
        }
        Ok(match ending? {
            Ending::Passed => Verdict::Survived,
            Ending::Failed => Verdict::Caught,
            Ending::Hung => Verdict::Hung,
        })
    }

    async fn build(&self, mutant: &Mutant) -> Result<()> {
        let mut cargo = self.cargo(mutant)?;
        cargo.arg("--no-run");
        command::succeed(&mut cargo).await.with_context(|| format!("see {}", self.log.display()))
    }

    async fn test(&self, mutant: &Mutant) -> Result<Ending> {
        let mut cargo = self.cargo(mutant)?;
        cargo.args(["--", mutant.test]);
        match tokio::time::timeout(TEST_MAX, command::run(&mut cargo)).await {
            Err(_) => Ok(Ending::Hung),
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => {
                let said = fs::read_to_string(&self.log)?;
                ensure!(!said.contains("running 0 tests"), "no test is called {}", mutant.test);
                Ok(Ending::Passed)
            }
            Ok(status) => {
                status?;
                // Not for want of a server, nor for anything else: this very test must have failed.
                let said = fs::read_to_string(&self.log)?;
                let has_failed = said.contains("test result: FAILED") && said.contains(mutant.test);
                ensure!(has_failed, "{}: no failed test in {}", mutant.name, self.log.display());
                Ok(Ending::Failed)
            }
        }
    }

    fn cargo(&self, mutant: &Mutant) -> Result<Command> {
        let log = fs::File::create(&self.log)?;
        let mut cargo = command::cargo();
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        cargo.envs(self.settings.iter().map(|(name, value)| (name, value)));
        cargo.args(["test", "--quiet", "--locked", "-p", mutant.package]);
        match mutant.suite {
            Some(suite) => cargo.args(["--test", suite]),
            None => cargo.arg("--lib"),
        };
        cargo.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(cargo)
    }
}

/// The files to change: path, as it is, and with the guard taken out.
fn patched(mutant: &Mutant, tree: &Path) -> Result<Vec<(PathBuf, String, String)>> {
    let here = mutant.edits.iter().map(|(find, replace)| (mutant.file, *find, *replace));
    let mut patched: Vec<(PathBuf, String, String)> = Vec::new();
    for (file, find, replace) in here.chain(mutant.also.iter().copied()) {
        let path = tree.join(file);
        let place = if let Some(place) = patched.iter().position(|(known, ..)| *known == path) {
            place
        } else {
            let original = fs::read_to_string(&path).with_context(|| file.to_owned())?;
            patched.push((path, original.clone(), original));
            patched.len() - 1
        };
        let text = &mut patched[place].2;
        let count = text.matches(find).count();
        ensure!(count == 1, "{}: {count} times in {file}: {find}", mutant.name);
        *text = text.replacen(find, replace, 1);
    }
    Ok(patched)
}

fn test_of(mutant: &Mutant) -> String {
    let suite = mutant.suite.map(|suite| format!("::{suite}")).unwrap_or_default();
    format!("{}{suite} {}", mutant.package, mutant.test)
}

/// The verdicts in the table as it is, by mutant and test: another test has not been tried.
fn verdicts(table: &str) -> BTreeMap<(String, String), String> {
    let cells = table.lines().map(|line| line.split(" | ").collect::<Vec<_>>());
    let rows = cells.filter(|cells| cells.len() == 5);
    let read = |cells: Vec<&str>| {
        let test = cells[4].trim_matches(['`', ' ', '|']).to_owned();
        ((cells[0].trim_start_matches("| ").to_owned(), test), cells[3].to_owned())
    };
    rows.map(read).collect()
}

/// The tables: each mutant with its verdict in its latest run, and each guard with its mutants.
fn document(before: &BTreeMap<(String, String), String>, trials: &[Trial]) -> String {
    let mut text = String::from(
        "# Mutants\n\nMade by `cargo xtask mutants`: each guard below is taken out of a copy of the tree, and the test\n\
         beside it is run. It passes on the tree as it is; it must fail without the guard. The verdict is that of\n\
         the last run that tried it. The guards of the protocol itself are also taken out of the model, see\n\
         [model.md](model.md#mutants); a longer list, taken out by hand, is in [guards.md](guards.md).\n\n\
         | mutant | what is done | where | verdict | test |\n|---|---|---|---|---|\n",
    );
    for mutant in all() {
        let Mutant { name, what, file, .. } = mutant;
        let tried = trials.iter().find(|trial| trial.name == *name);
        let tried = tried.map(|trial| format!("{:?}", trial.verdict).to_lowercase());
        let caught_by = test_of(mutant);
        let earlier = || before.get(&((*name).to_owned(), caught_by.clone())).cloned();
        let verdict = tried.or_else(earlier).unwrap_or_else(|| "not tried".to_owned());
        text.extend([
            "| ", name, " | ", what, " | `", file, "` | ", &verdict, " | `", &caught_by, "` |\n",
        ]);
    }
    text.push_str(
        "\n## What is done wrong, and which mutants do it\n\nThose of the model are run by `cargo xtask model --mutant NAME` and by the model's tests.\n\
         `one-id-two-epochs` of the real parts breaks the rule and harms nobody: the gateway tries again only after\n\
         a plain no of the first epoch. What the rule is for, a hold of which nothing is known, is in the model.\n\n\
         | what is done wrong | real parts | model |\n|---|---|---|\n",
    );
    for asked in ASKED {
        let (real, model) = (named(asked.real), named(asked.model));
        text.extend(["| ", asked.what, " | ", &real, " | ", &model, " |\n"]);
    }
    text
}

fn named(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_finds_its_guard_once() {
        for mutant in all() {
            for (file, original, mutated) in patched(mutant, &root()).expect(mutant.name) {
                assert_ne!(mutated, original, "{}: {}", mutant.name, file.display());
            }
        }
    }

    #[test]
    fn names_are_distinct_and_unknown_ones_are_refused() {
        let mut names: Vec<&str> = all().map(|mutant| mutant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
        assert!(choose(&["nobody".to_owned()]).is_err());
        assert_eq!(choose(&[]).expect("all").len(), all().count());
    }

    #[test]
    fn the_table_is_as_a_run_would_write_it_and_every_mutant_was_caught() {
        let table = fs::read_to_string(root().join(TABLE)).expect(TABLE);
        let verdicts = verdicts(&table);
        assert_eq!(document(&verdicts, &[]), table, "run `cargo xtask mutants`");
        for mutant in all() {
            let key = (mutant.name.to_owned(), test_of(mutant));
            let verdict = verdicts.get(&key).map(String::as_str);
            assert!(matches!(verdict, Some("caught" | "hung")), "{}: {verdict:?}", mutant.name);
        }
    }

    #[test]
    fn what_is_done_wrong_names_mutants_there_are_and_leaves_none_out() {
        let of_the_model = fs::read_to_string(root().join("model/src/mutants.rs")).expect("there");
        for asked in ASKED {
            for name in asked.real {
                assert!(all().any(|mutant| mutant.name == *name), "{name}");
            }
            for name in asked.model {
                assert!(of_the_model.contains(&format!("mutant(\"{name}\",")), "{name}");
            }
            assert!(!asked.real.is_empty() || !asked.model.is_empty(), "{}", asked.what);
        }
        let is_named = |name| ASKED.iter().any(|asked| asked.real.contains(&name));
        for mutant in all() {
            assert!(is_named(mutant.name), "{}", mutant.name);
        }
        let models = of_the_model.matches("    mutant(\"").count();
        assert_eq!(ASKED.iter().map(|asked| asked.model.len()).sum::<usize>(), models);
    }
}
