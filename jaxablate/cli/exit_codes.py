"""What the code with which a command ends means. The reference page is made of this table."""

# 75 is EX_TEMPFAIL of sysexits ("try again"); 130 is what a shell reports for Ctrl-C, 141 for a
# closed pipe.
DONE, FAILED, USAGE, STOPPED, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 75, 130, 141

MEANINGS = {
    DONE: "done; also when there was nothing left to do",
    FAILED: "it failed: a full disk, a checkpoint that could not be saved, a loss that is no "
    "number, or a mistake of ours (with a traceback)",
    USAGE: "wrong input: one sentence says what was got and what is possible; nothing was touched",
    STOPPED: "a command that trains was stopped by SIGTERM, in training also by Ctrl-C; training "
    "saved first, and the same command goes on",
    INTERRUPTED: "interrupted by Ctrl-C, in training by a second one; the same command goes on",
    CLOSED_PIPE: "the reader of a pipe went away",
}
