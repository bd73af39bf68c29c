#!/bin/sh
# Starts the Claude CLI named by KOMPUTER_CLAUDE so that it gets SIGTERM when the runtime dies. It lies in the installed
# package, which the agent cannot write.
claude=$KOMPUTER_CLAUDE
unset KOMPUTER_CLAUDE
# When memory runs out, Claude and its commands are killed first: the runtime reports what happened.
{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null
exec setpriv --pdeathsig TERM -- "$claude" "$@"
