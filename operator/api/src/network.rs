//! A network in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::net::IpAddr;
use std::str::FromStr;

/// An address with the length of its prefix. Bits beyond the prefix are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network: write an IP address and the length of its prefix, such as 10.244.0.0/16")]
pub struct ParseNetworkError;

impl Network {
    /// Returns whether an address is in the network. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Returns the length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    /// Parses the forms that CEL's `isCIDR` accepts: no IPv4-mapped IPv6 address, no leading zeros.
    fn from_str(text: &str) -> Result<Network, ParseNetworkError> {
        let (address, prefix) = text.split_once('/').ok_or(ParseNetworkError)?;
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let most = if address.is_ipv4() { 32 } else { 128 };
        let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        match prefix.parse::<u8>() {
            Ok(prefix_len) if plain && !mapped && prefix_len <= most && (prefix == "0" || !prefix.starts_with('0')) => {
                Ok(Network { address, prefix: prefix_len })
            }
            _ => Err(ParseNetworkError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_contains_exactly_its_addresses() {
        for (network, inside, outside) in [
            ("10.244.0.0/16", "10.244.255.255", "10.245.0.0"),
            ("10.244.7.9/16", "10.244.0.0", "10.243.255.255"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1/128", "::1", "::2"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn text_that_is_no_network_is_refused() {
        for text in
            ["", "10.0.0.1", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/08", "10.0/8", "a/8"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert!("::ffff:10.0.0.0/104".parse::<Network>().is_err());
    }
}
