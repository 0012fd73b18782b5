//! How sessions are set up.

use tokio_postgres::types::Type;

use crate::query::Query;

/// Everything a writer's or a relay's session could set otherwise.
///
/// The log is read by index and in its order only: it is never analysed, and a scan or a sort that
/// looks cheap to the planner is one that grows with the log, or with what is left of a batch.
/// A frozen relay must not hold locks: from PostgreSQL 14 on the server ends a session that says
/// nothing for 5 s (we look into the log every 250 ms).
pub(crate) const SETTINGS: &str = "
    set search_path = pg_catalog, pg_temp;
    set timezone = 'UTC';
    set datestyle = 'ISO, MDY';
    set enable_seqscan = off;
    set enable_sort = off;
    set jit = off;
    set statement_timeout = 0;
    set lock_timeout = 0;
    set synchronous_commit = on;
    set default_transaction_isolation = 'read committed';
    set tcp_keepalives_idle = 4;
    set tcp_keepalives_interval = 2;
    set tcp_keepalives_count = 2;
    set tcp_user_timeout = 8000;";

pub(crate) const SETTINGS_14: &str = "set idle_session_timeout = '5s'";

pub(crate) const LISTEN: &str = "listen pgrelay; listen pgrelay_ledger; listen pgrelay_catalog";

pub(crate) const WHO: Query = Query::new(
    "select pg_backend_pid(), current_setting('server_version_num')::int, pg_is_in_recovery(),
            current_setting('max_prepared_transactions')::int",
    &[],
);

pub(crate) const PID: Query = Query::new("select pg_backend_pid()", &[]);

/// A time limit, in milliseconds, for the rest of the transaction.
pub(crate) const LIMIT: Query = Query::new(
    "select set_config('statement_timeout', $1, true)",
    &[Type::TEXT],
);

/// Same rendering as in the log; the role last, because the others need none.
pub(crate) const SANDBOX: Query = Query::new(
    "select set_config('statement_timeout', $1, true), set_config('search_path', $2, true),
            set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true),
            set_config('IntervalStyle', 'postgres', true), set_config('bytea_output', 'hex', true),
            set_config('extra_float_digits', '1', true),
            (select set_config('role', r.rolname, true) from pg_catalog.pg_roles r
              where r.rolname = 'pgrelay_capture' and pg_catalog.pg_has_role(current_user, r.oid, 'member'))",
    &[Type::TEXT, Type::TEXT],
);

/// One snapshot for all viewers of a look.
pub(crate) const BEGIN_LOOK: &str = "begin isolation level repeatable read read only";

/// Same rendering as in the log. Rows are looked for by their keys, and there are few of them.
pub(crate) const LOOK_SETTINGS: Query = Query::new(
    "select set_config('statement_timeout', $1, true), set_config('jit', 'off', true),
            set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
            set_config('enable_mergejoin', 'off', true), set_config('TimeZone', 'UTC', true),
            set_config('DateStyle', 'ISO, MDY', true), set_config('IntervalStyle', 'postgres', true),
            set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true),
            set_config('lc_monetary', 'C', true), set_config('quote_all_identifiers', 'off', true)",
    &[Type::TEXT],
);
