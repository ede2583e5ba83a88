"""Fuzzing: for each input, a parser returns a value or raises its documented error, in bounded time and memory."""
