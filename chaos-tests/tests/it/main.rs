//! Acceptance tests: the real program, real partners, and what the outside can see. One binary, so that
//! it is linked once.

mod partners;
