//! The command line.

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::json;

use crate::explore::explore;
use crate::mutants::Mutant;
use crate::walks::walk_all;
use crate::{Guards, Protocol, mutants, report, scopes};

/// Walks taken if nothing else is asked for.
const SEEDS: u64 = 10_000;

/// Explores the protocol's model: every state of small worlds, random walks through larger ones.
#[derive(Debug, Parser)]
#[command(name = "model", max_term_width = 100)]
pub struct Cli {
    /// Take so many random walks; 10,000 if nothing else is asked for
    #[arg(long)]
    seeds: Option<u64>,
    /// The first walk's seed; the others follow
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Explore only this scope, and walk only if `--seeds` is given
    #[arg(long)]
    scope: Option<String>,
    /// Explore only the scopes that are small
    #[arg(long)]
    quick: bool,
    /// Take a guard out and show what breaks; `all` tries each and fails if one is not caught
    #[arg(long)]
    mutant: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Cli {
    /// Runs what was asked for; an error if anything is broken.
    pub fn run(&self) -> Result<()> {
        match self.mutant.as_deref() {
            Some("all") => self.all_mutants(),
            Some(name) => self.mutant(name),
            None => self.sound(),
        }
    }

    fn sound(&self) -> Result<()> {
        let (mut explored, mut broken) = (Vec::new(), 0_usize);
        self.say(&report::head("scope"));
        for scope in scopes::ALL {
            let is_wanted = match &self.scope {
                Some(name) => name == scope.name,
                None => scope.is_quick || !self.quick,
            };
            if !is_wanted {
                continue;
            }
            self.progress(&format!("exploring {}: {}", scope.name, scope.about));
            let protocol = Protocol::sound(*scope);
            let found = explore(&protocol, threads());
            self.say(&report::line(scope.name, &found));
            if let Some(violation) = &found.violation {
                broken += 1;
                self.say(&report::violation(
                    &protocol,
                    &format!("scope {}", scope.name),
                    violation,
                ));
            }
            explored.push(report::json(scope.name, &protocol, &found));
        }
        if explored.is_empty() {
            bail!("no scope is named {}", self.scope.as_deref().unwrap_or_default());
        }
        let seeds = self.seeds.or(self.scope.is_none().then_some(SEEDS));
        let walks = seeds.map(|seeds| self.walk(seeds, Guards::default()));
        broken += usize::from(walks.as_ref().is_some_and(|walks| !walks["violation"].is_null()));
        if self.json {
            println!("{}", json!({ "scopes": explored, "walks": walks }));
        }
        if broken > 0 {
            bail!("{broken} violations");
        }
        Ok(())
    }

    fn walk(&self, seeds: u64, guards: Guards) -> serde_json::Value {
        let tell = |walked| self.progress(&format!("{walked} of {seeds} walks"));
        let walks = walk_all(self.first_seed, seeds, guards, threads(), tell);
        let (seconds, first) = (walks.took.as_secs_f64(), self.first_seed);
        self.say(&format!(
            "{} walks from seed {first}, {} steps, {seconds:.2} seconds",
            walks.seeds, walks.steps
        ));
        if let Some(broken) = &walks.violation {
            let place = format!("seed {} in {}", broken.seed, broken.protocol.scope.name);
            self.say(&report::violation(&broken.protocol, &place, &broken.violation));
        }
        let violation = walks.violation.as_ref().map(|broken| {
            let told = report::json_violation(&broken.protocol, &broken.violation);
            json!({ "seed": broken.seed, "scope": broken.protocol.scope.name, "found": told })
        });
        json!({
            "first_seed": first,
            "seeds": walks.seeds,
            "steps": walks.steps,
            "seconds": seconds,
            "violation": violation,
        })
    }

    fn mutant(&self, name: &str) -> Result<()> {
        let found = mutants::ALL.iter().find(|mutant| mutant.name == name);
        let known = || mutants::ALL.iter().map(|mutant| mutant.name).collect::<Vec<_>>().join(", ");
        let mutant = found.with_context(|| format!("no mutant {name}; there are {}", known()))?;
        let mut protocol = mutant.protocol();
        if let Some(scope) = &self.scope {
            let found = scopes::ALL.iter().find(|known| known.name == scope);
            protocol.scope = *found.with_context(|| format!("no scope {scope}"))?;
        }
        let found = explore(&protocol, 1);
        self.say(&report::head("mutant"));
        self.say(&report::line(name, &found));
        if let Some(violation) = &found.violation {
            let place = format!("mutant {name} in scope {}", protocol.scope.name);
            self.say(&report::violation(&protocol, &place, violation));
        }
        let walks = self.seeds.map(|seeds| self.walk(seeds, protocol.guards));
        if self.json {
            let explored = report::json(name, &protocol, &found);
            println!("{}", json!({ "mutant": explored, "walks": walks }));
        }
        if found.violation.is_some() {
            bail!("the mutant is caught");
        }
        Ok(())
    }

    fn all_mutants(&self) -> Result<()> {
        let mut explored = Vec::new();
        let mut missed = Vec::new();
        self.say(&report::head("mutant"));
        for mutant in mutants::ALL {
            let Mutant { name, property, .. } = mutant;
            let protocol = mutant.protocol();
            let found = explore(&protocol, 1);
            self.say(&report::line(name, &found));
            if found.violation.as_ref().map(|violation| violation.property) != Some(*property) {
                missed.push(*name);
            }
            let walks = self.seeds.map(|seeds| self.walk(seeds, protocol.guards));
            let explored_one = report::json(name, &protocol, &found);
            explored.push(json!({ "mutant": explored_one, "walks": walks }));
        }
        if self.json {
            println!("{}", json!({ "mutants": explored }));
        }
        if !missed.is_empty() {
            bail!("not caught as expected: {}", missed.join(", "));
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    fn progress(&self, text: &str) {
        if !self.json {
            eprintln!("... {text}");
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}
