//! The Lua scripts, compiled in, and calls of them.
//!
//! A script is called by its digest. A server that does not know it has certainly not run it, so
//! it is loaded and called once more.

use std::sync::LazyLock;

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, ToRedisArgs, Value};

macro_rules! scripts {
    ($($name:ident = $file:literal;)+) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(include_str!(concat!("../../scripts/lua/", $file)))
        });)+
        const CODES: &[&str] = &[$(include_str!(concat!("../../scripts/lua/", $file))),+];
    };
}

scripts! {
    APPLY = "apply.lua";
    FREEZE = "freeze.lua";
    HOLD = "hold.lua";
    INSPECT = "inspect.lua";
    OPEN = "open.lua";
    PREPARE = "prepare.lua";
    SETTLE = "settle.lua";
    SNAPSHOT = "snapshot.lua";
    WINDOW = "window.lua";
}

/// Loads every script, so that a rush on a server that is just back does not send each of them
/// once per waiting call.
pub(crate) async fn load_all(connection: &mut impl ConnectionLike) -> Result<(), RedisError> {
    let mut pipeline = redis::pipe();
    for code in CODES {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(code).ignore();
    }
    pipeline.exec_async(connection).await
}

/// One call of a script.
#[derive(Debug)]
pub(crate) struct Call {
    script: &'static Script,
    command: Cmd,
}

impl Call {
    /// Begins a call on these keys, all of one hash tag.
    pub(crate) fn new(script: &'static Script, keys: &[String]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len()).arg(keys);
        Self { script, command }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    /// Runs it.
    pub(crate) async fn run(
        &self,
        connection: &mut impl ConnectionLike,
    ) -> Result<Value, RedisError> {
        match self.command.query_async(connection).await {
            Err(error) if is_unknown_script(&error) => {
                self.script.load_async(connection).await?;
                self.command.query_async(connection).await
            }
            answered => answered,
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
