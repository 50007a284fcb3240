//! Lists of all variants of a closed enum that cannot leave one out.

/// Gives an enum a constant array of all its variants. The list is also the pattern of a match: an enum with a variant that
/// is not in it does not compile, nor does a list with one twice.
#[macro_export]
macro_rules! closed_list {
    ($(#[$about:meta])* $visibility:vis const $name:ident = [$($variant:ident),+ $(,)?]) => {
        $(#[$about])*
        $visibility const $name: [Self; [$(Self::$variant),+].len()] = {
            let all = [$(Self::$variant),+];
            let mut place = 0;
            #[deny(unreachable_patterns)]
            while place < all.len() {
                match all[place] { $(Self::$variant => place += 1),+ }
            }
            all
        };
    };
}
