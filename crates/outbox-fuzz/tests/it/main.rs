//! What holds of every parser, without a nightly compiler: of the bytes of the corpus, and of thousands made from them.

mod made;
mod quietly;
mod replay;
