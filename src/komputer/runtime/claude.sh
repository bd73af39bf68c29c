#!/bin/sh
# Starts the Claude CLI named by KOMPUTER_CLAUDE so that it gets SIGTERM when the runtime dies. It lies in the installed
# package, which the agent cannot write.
claude=$KOMPUTER_CLAUDE
unset KOMPUTER_CLAUDE
exec setpriv --pdeathsig TERM -- "$claude" "$@"
