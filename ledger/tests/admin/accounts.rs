//! Accounts and refresh tokens.

use anyhow::Result;
use ledger::account::{NewAccount, Registered, Role, Rotated};

use crate::World;

const TTL_S: i32 = 3600;

#[tokio::test]
async fn a_log_in_name_is_one_accounts() -> Result<()> {
    let world = World::new().await?;
    let id = world.account("li", Role::Patient).await?;
    let again = NewAccount {
        login_hash: b"li".to_vec(),
        login_sealed: Vec::new(),
        password_hash: String::new(),
        role: Role::Admin,
    };
    assert_eq!(world.ledger.create_account(None, again).await?, Registered::LoginTaken);
    let found = world.ledger.find_credentials(b"li".to_vec()).await?.expect("it is there");
    assert_eq!((found.account, found.role), (id, Role::Patient));
    assert!(world.ledger.find_credentials(b"wang".to_vec()).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn an_admin_account_is_noted_and_a_patients_is_not() -> Result<()> {
    let world = World::new().await?;
    let admin = world.account("root", Role::Admin).await?;
    let patient = world.account("li", Role::Patient).await?;
    let log = world.ledger.audit_log("account", admin.get(), 10).await?;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].action.as_str(), &log[0].detail["role"]), ("create", &"admin".into()));
    assert!(world.ledger.audit_log("account", patient.get(), 10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_family() -> Result<()> {
    let world = World::new().await?;
    let account = world.account("li", Role::Patient).await?;
    let ledger = &world.ledger;
    ledger.start_refresh_family(account, [1; 32], TTL_S).await?;
    ledger.start_refresh_family(account, [9; 32], TTL_S).await?;
    let Rotated::Done(holder) = ledger.rotate_refresh([1; 32], [2; 32], TTL_S).await? else {
        panic!("the first exchange works");
    };
    assert_eq!((holder.account, holder.role), (account, Role::Patient));
    assert_eq!(ledger.rotate_refresh([1; 32], [3; 32], TTL_S).await?, Rotated::Reused);
    assert_eq!(ledger.rotate_refresh([2; 32], [4; 32], TTL_S).await?, Rotated::Unknown);
    assert_eq!(ledger.rotate_refresh([3; 32], [4; 32], TTL_S).await?, Rotated::Unknown);
    let other = ledger.rotate_refresh([9; 32], [8; 32], TTL_S).await?;
    assert!(matches!(other, Rotated::Done(_)), "another log-in is another family");
    Ok(())
}

#[tokio::test]
async fn logging_out_ends_the_successors_too() -> Result<()> {
    let world = World::new().await?;
    let account = world.account("li", Role::Patient).await?;
    let ledger = &world.ledger;
    ledger.start_refresh_family(account, [1; 32], TTL_S).await?;
    assert!(matches!(ledger.rotate_refresh([1; 32], [2; 32], TTL_S).await?, Rotated::Done(_)));
    assert!(ledger.revoke_refresh([1; 32]).await?);
    assert_eq!(ledger.rotate_refresh([2; 32], [3; 32], TTL_S).await?, Rotated::Unknown);
    assert!(!ledger.revoke_refresh([7; 32]).await?);
    Ok(())
}

#[tokio::test]
async fn an_expired_refresh_token_is_worth_nothing_and_forgotten_at_the_next_log_in() -> Result<()>
{
    let world = World::new().await?;
    let account = world.account("li", Role::Patient).await?;
    let ledger = &world.ledger;
    ledger.start_refresh_family(account, [1; 32], 0).await?;
    assert_eq!(ledger.rotate_refresh([1; 32], [2; 32], TTL_S).await?, Rotated::Unknown);
    ledger.start_refresh_family(account, [3; 32], TTL_S).await?;
    assert!(!ledger.revoke_refresh([1; 32]).await?, "it is forgotten");
    Ok(())
}

/// The race: a rotation commits its successor while a reuse revokes the family.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_exchanges_of_one_token_one_wins_and_nothing_of_the_family_lives_on() -> Result<()>
{
    let world = World::new().await?;
    let account = world.account("li", Role::Patient).await?;
    for round in 0..20_u8 {
        let token = [round; 32];
        world.ledger.start_refresh_family(account, token, TTL_S).await?;
        let rivals: Vec<_> = (0..6_u8)
            .map(|rival| {
                let (ledger, mut next) = (world.ledger.clone(), [round; 32]);
                next[0] = 100 + rival;
                tokio::spawn(async move {
                    // Whoever wins goes on at once with the successor.
                    let won = ledger.rotate_refresh(token, next, TTL_S).await?;
                    let mut after = next;
                    after[1] = 100;
                    if matches!(won, Rotated::Done(_)) {
                        ledger.rotate_refresh(next, after, TTL_S).await?;
                    }
                    anyhow::Ok((matches!(won, Rotated::Done(_)), next, after))
                })
            })
            .collect();
        let mut wins = 0;
        let mut family = Vec::new();
        for rival in rivals {
            let (is_win, next, after) = rival.await??;
            wins += i32::from(is_win);
            family.extend([next, after]);
        }
        assert_eq!(wins, 1);
        for token in family {
            let left = world.ledger.rotate_refresh(token, [99; 32], TTL_S).await?;
            assert!(!matches!(left, Rotated::Done(_)), "round {round}");
        }
    }
    Ok(())
}
