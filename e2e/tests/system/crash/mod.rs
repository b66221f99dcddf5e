//! The crash matrix: a program kills itself between two steps, twice in a row, and the other one is
//! killed with it. Whatever was under way must come out as promised.
//!
//! Read first: `points.rs`, the table of all cases.

mod matrix;
mod parked;
mod points;
mod provocation;

use anyhow::{Result, ensure};
use e2e::{Manner, Options, Program, System};

use provocation::{Provocation, Scene};

/// Which program passes the point and dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    Gateway,
    Worker,
}

/// How the point is reached for the second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// The program dies again while it recovers, before it is ready.
    Recovering,
    /// It recovers, and is asked the same once more.
    Asked,
}

/// A line of the matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    point: &'static str,
    dies: Dies,
    again: Again,
    provocation: Provocation,
    /// How things stand at that moment.
    standing: &'static str,
}

const PLACES: u32 = 8;
const PATIENTS: u32 = 16;
/// Patients of this number and above come when all is over.
const CROWD: usize = 6;

impl Case {
    fn options(&self) -> Options {
        Options {
            places: PLACES,
            slots: 1,
            patients: PATIENTS,
            settings: self.provocation.settings(),
            ..Options::default()
        }
    }

    async fn run(self) -> Result<()> {
        let mut system = System::start(self.options()).await?;
        let mut scene = Scene::prepare(&mut system, self.provocation).await?;
        self.arm(&system)?;
        scene.act(&mut system, 0).await?;
        self.program(&mut system).died_at(self.point, 1).await?;
        self.die_again(&mut system, &mut scene).await?;

        // The second program in the same moment: neither can count on the other.
        for program in [&mut system.gateways[0], &mut system.workers[0]] {
            program.arm("")?;
            program.start_again()?;
        }
        system.gateways[0].ready().await?;
        system.workers[0].ready().await?;
        let found = scene.judge(&mut system).await?;
        // Until a reconciler leads again, what was granted may not stand in Redis yet.
        system.settle_and_audit().await?;
        let crowd =
            system.rush(CROWD..PATIENTS as usize, Manner { within_ms: 0, ..Manner::default() })?;
        crowd.finish().await?;
        system.sell_out().await?;
        let counts = system.counts().await?;
        ensure!(counts.booked == u64::from(PLACES), "not all is sold: {counts:?}");
        system.finish().await?;
        matrix::note(&self, &found)
    }

    async fn die_again(&self, system: &mut System, scene: &mut Scene) -> Result<()> {
        match self.again {
            Again::Recovering => {
                scene.act(system, 1).await?;
                self.program(system).start_again()?;
            }
            Again::Asked => {
                self.program(system).start_again()?;
                self.program(system).ready().await?;
                scene.act(system, 1).await?;
            }
        }
        self.program(system).died_at(self.point, 2).await
    }

    fn arm(&self, system: &System) -> Result<()> {
        let program = match self.dies {
            Dies::Gateway => &system.gateways[0],
            Dies::Worker => &system.workers[0],
        };
        program.arm(&format!("{}=kill;{}", self.point, self.provocation.also()))
    }

    fn program<'a>(&self, system: &'a mut System) -> &'a mut Program {
        match self.dies {
            Dies::Gateway => &mut system.gateways[0],
            Dies::Worker => &mut system.workers[0],
        }
    }
}
