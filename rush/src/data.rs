//! A prepared release and a crowd's tokens as files, for another load tool.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;

use crate::audit::Probe;
use crate::client::Client;
use crate::history::History;
use crate::prepare;
use crate::settings::DataArgs;
use crate::tokens::Minter;

/// Prepares and writes `patients.csv` (token, patient, slot, key, address; one line per patient)
/// and `release.jsonl` (what `rush audit` needs).
///
/// # Errors
/// If the system can't be prepared or the files can't be written.
pub async fn write(args: &DataArgs) -> anyhow::Result<()> {
    let probe = Probe::new(&args.target)?;
    let client = Client::new(&args.target.gateway, 1, Duration::from_secs(30))?;
    let members = prepare::gather(probe.ledger(), args.crowd.patients).await?;
    let minter = Minter::load(&args.crowd.token_key_file)?;
    let plan = prepare::release(&client, &args.preparation).await?;
    fs::create_dir_all(&args.dir).with_context(|| format!("making {}", args.dir.display()))?;
    let path = args.dir.join("patients.csv");
    let mut csv = std::io::BufWriter::new(fs::File::create(&path).context("writing the tokens")?);
    writeln!(csv, "authorization,patient,slot,key,address")?;
    for (nth, (member, offer)) in members.iter().zip(plan.offers.iter().cycle()).enumerate() {
        let authorization = minter.mint(*member)?;
        let address = std::net::Ipv4Addr::from(0x0a00_0001 + u32::try_from(nth)?);
        let key = format!("load-{}-{}", plan.release, member.patient);
        let (token, patient, slot) = (authorization.to_str()?, member.patient, offer.slot);
        writeln!(csv, "{token},{patient},{slot},{key},{address}")?;
    }
    csv.flush()?;
    let crowd = members.iter().map(|member| member.patient).collect();
    let history = History { crowd, ..History::default() };
    history.write(&plan, &args.dir.join("release.jsonl"))?;
    // For whoever waits for the opening: milliseconds since 1970.
    println!("{}", plan.opens_at.0);
    Ok(())
}
