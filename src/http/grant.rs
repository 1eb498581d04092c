//! The grants of the token endpoint. To add one: a variant with its name here, and an arm in `token.rs`.

use super::error::ApiError;
use super::form::Form;

/// `grant_type` of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// A device polls (RFC 8628 section 3.4).
    DeviceCode,
    /// A device refreshes its access token (RFC 6749 section 6).
    RefreshToken,
}

impl GrantType {
    const ALL: [Self; 2] = [Self::DeviceCode, Self::RefreshToken];

    /// The name in requests and metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::RefreshToken => "refresh_token",
        }
    }

    /// Takes the grant out of a form.
    pub fn take(form: &mut Form<'_>) -> Result<Self, ApiError> {
        let name = form.take("grant_type").ok_or_else(|| ApiError::missing("grant_type"))?;
        Self::ALL.into_iter().find(|grant| grant.name() == name).ok_or(ApiError::UnsupportedGrantType)
    }
}
