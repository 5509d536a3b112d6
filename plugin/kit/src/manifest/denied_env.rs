//! The server's own secrets: variables of Paperclip's pod that agents do not inherit.

use paperclip_kubernetes::environment::fits;

/// Names and patterns; `*` matches any text.
const DENIED: [&str; 14] = [
    "DATABASE_URL",
    "DATABASE_*",
    "PG*",
    "POSTGRES_*",
    "REDIS_URL",
    "BETTER_AUTH_*",
    "PAPERCLIP_AGENT_JWT_SECRET",
    "PAPERCLIP_SECRETS_*",
    "PAPERCLIP_MASTER_KEY*",
    "*_ENCRYPTION_KEY",
    "SESSION_SECRET",
    "SMTP_*",
    "S3_*",
    "PAPERCLIP_INSTANCE_*",
];

/// Names that match the patterns and that a server is known to have. An inherited Secret or ConfigMap may hold them; a plugin does not
/// see its keys, so these names are overridden one by one.
const DENIED_BY_NAME: [&str; 8] = [
    "BETTER_AUTH_SECRET",
    "DATABASE_MIGRATION_URL",
    "DATABASE_PASSWORD",
    "PAPERCLIP_MASTER_KEY",
    "PAPERCLIP_SECRETS_MASTER_KEY",
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "SMTP_PASSWORD",
];

/// Whether agents do not inherit a variable of this name. `extra` holds the operator's names and patterns.
///
/// ```
/// use paperclip_kit::manifest::denied_env::is_denied;
///
/// assert!(is_denied("DATABASE_URL", &[]));
/// assert!(is_denied("STRIPE_KEY", &["STRIPE_*".to_owned()]));
/// ```
pub fn is_denied(name: &str, extra: &[String]) -> bool {
    DENIED.iter().any(|pattern| fits(pattern, name)) || is_denied_always(name, extra)
}

/// Whether the operator's names and patterns deny a variable, which applies whatever an agent's config says.
pub fn is_denied_always(name: &str, extra: &[String]) -> bool {
    extra.iter().any(|pattern| fits(pattern, name))
}

/// Returns the names that are overridden where a whole Secret or ConfigMap is inherited, sorted.
pub fn overridden_names(extra: &[String]) -> Vec<String> {
    let mut names: Vec<String> = DENIED
        .iter()
        .chain(&DENIED_BY_NAME)
        .map(|name| (*name).to_owned())
        .chain(extra.iter().cloned())
        .filter(|name| !name.contains('*'))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_secrets_are_denied_and_other_names_are_not() {
        for name in [
            "DATABASE_URL",
            "DATABASE_POOL",
            "PGHOST",
            "POSTGRES_USER",
            "BETTER_AUTH_SECRET",
            "PAPERCLIP_SECRETS_MASTER_KEY_FILE",
            "PAPERCLIP_MASTER_KEY",
            "APP_ENCRYPTION_KEY",
            "S3_BUCKET",
            "PAPERCLIP_INSTANCE_ID",
        ] {
            assert!(is_denied(name, &[]), "{name}");
        }
        for name in
            ["ANTHROPIC_API_KEY", "PAPERCLIP_API_URL", "AWS_S3_REGION", "MY_PGHOST", "ENCRYPTION_KEY", "PATH"]
        {
            assert!(!is_denied(name, &[]), "{name}");
        }
    }

    #[test]
    fn operators_add_names_and_patterns() {
        let extra = ["STRIPE_*".to_owned(), "*TOKEN*".to_owned(), "EXACT".to_owned()];
        assert!(
            is_denied("STRIPE_KEY", &extra) && is_denied("MY_TOKEN_2", &extra) && is_denied("EXACT", &extra)
        );
        assert!(!is_denied("EXACTLY", &extra));
        assert!(is_denied_always("STRIPE_KEY", &extra) && !is_denied_always("DATABASE_URL", &extra));
        let names = overridden_names(&extra);
        assert!(names.contains(&"EXACT".to_owned()) && names.contains(&"REDIS_URL".to_owned()));
        assert!(names.iter().all(|name| !name.contains('*')));
        assert!(names.iter().all(|name| is_denied(name, &extra)), "{names:?}");
    }
}
