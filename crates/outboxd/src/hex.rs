//! Bytes as hexadecimal digits, and back.

use std::fmt::Write as _;

/// Two digits a byte, in lower case.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The 32 bytes of a SHA-256, its digits in either case, colons between bytes or none.
pub(crate) fn decode_sha256(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = if text.contains(':') {
        let pairs: Vec<&str> = text.split(':').collect();
        pairs.iter().all(|pair| pair.len() == 2).then(|| pairs.concat().into_bytes())?
    } else {
        text.as_bytes().to_vec()
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? * 16 + digit(pair[1])?);
    let bytes: Option<Vec<u8>> = if digits.len() == 64 { digits.chunks(2).map(byte).collect() } else { None };
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sha256_is_read_as_tools_write_it_and_nothing_else_is() {
        let bytes: [u8; 32] = std::array::from_fn(|place| u8::try_from(place * 8).unwrap());
        let plain = encode(&bytes);
        assert_eq!(plain.len(), 64);
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        for text in [plain.clone(), plain.to_uppercase(), pairs.join(":")] {
            assert_eq!(decode_sha256(&text), Some(bytes), "{text}");
        }
        for text in
            ["", &plain[1..], &format!("{plain}00"), &plain.replace("08", "0g"), &pairs.join(" "), &format!(":{plain}")]
        {
            assert_eq!(decode_sha256(text), None, "{text}");
        }
        assert_eq!(decode_sha256(&format!("{}é", "a".repeat(62))), None);
    }
}
