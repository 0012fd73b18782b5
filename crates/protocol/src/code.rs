//! Stable words a client may read.

/// Why a binding must fetch its data again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefetchReason {
    /// The cursor is older than what the log keeps.
    Retention,
    /// The cursor belongs to another epoch: the database was restored or lost its tail.
    Epoch,
    /// The cursor was not made by this database.
    Forged,
    /// The table changed under the binding.
    Schema,
    /// Changes may be missing before this point.
    Hole,
    /// Whether the changes may be seen could not be decided in time.
    Authorization,
}

/// Why a token was refused. The texts differ by place (connect, join, refresh).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT.
    Malformed,
    /// `exp` has passed, by this many seconds.
    Expired(u64),
    /// `role` or `exp` is missing.
    MissingClaims,
    /// The signature does not verify.
    Signature,
    /// No key for this token; its `kid` where it has one.
    Signer(Option<String>),
    /// Any other defect (a string `exp`, claims that are no object).
    Invalid,
}
