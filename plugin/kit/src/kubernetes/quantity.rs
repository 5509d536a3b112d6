//! Amounts of CPU, memory and other resources of containers.

use paperclip_kubernetes::Quantity;

/// Parses an amount that a container can have.
///
/// # Errors
/// What the amount has to be: the text is not a quantity, is negative, or more than Kubernetes keeps.
pub fn parse(text: &str) -> Result<Quantity, &'static str> {
    let quantity = Quantity::parse(text).ok();
    quantity.filter(|amount| (Quantity::ZERO..=Quantity::MAX).contains(amount)).ok_or(
        "must be an amount that is not negative, such as `500m` or `2` (CPU), `512Mi` or `4Gi` (memory); the units are n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi and Ei",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_amounts_that_no_container_has() {
        for text in ["0", "+1", "250m", "2Gi", "9223372036854775807"] {
            assert_eq!(parse(text).ok(), Quantity::parse(text).ok(), "{text}");
        }
        for text in ["", "-1", "1GiB", "1e99", "16Ei", "9999999999999999999999999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
