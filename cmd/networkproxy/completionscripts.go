// Templates of the completion scripts. Words between @ are replaced.

package main

const bashTemplate = `# Completion of networkproxy for bash. Load it with:
#   source <(networkproxy completion bash)

# _networkproxy_has_value reports whether flag $2 of command $1 has a value.
_networkproxy_has_value() {
	case $1:$2 in
	@values@
	esac
	return 1
}

# _networkproxy_words offers those of the words $1 that begin with $2.
_networkproxy_words() {
	local line
	while IFS= read -r line; do COMPREPLY+=("$prefix$line"); done < <(compgen -W "$1" -- "$2")
}

# _networkproxy_files offers the files that begin with $1.
_networkproxy_files() {
	local line
	compopt -o filenames 2>/dev/null
	while IFS= read -r line; do COMPREPLY+=("$prefix$line"); done < <(compgen -f -- "$1")
}

# _networkproxy_command completes the command that begins at word $1.
_networkproxy_command() {
	local line
	if declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	elif ((COMP_CWORD == $1)); then
		while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -c -- "$2")
	else
		_networkproxy_files "$2"
	fi
}

_networkproxy() {
	# bash splits words at = and : as well. Join the parts, and keep the index of
	# the first part of each word.
	local rest=$COMP_LINE i n=-1 prefix=
	local -a words=() starts=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then
			words[++n]=${COMP_WORDS[i]}
			starts[n]=$i
			rest=${rest#"${rest%%[![:space:]]*}"}
		else
			words[n]+=${COMP_WORDS[i]}
		fi
		rest=${rest#"${COMP_WORDS[i]}"}
	done

	local command=serve flag= operand= word current=${words[n]}
	COMPREPLY=()
	i=1
	if ((n > 1)) && [[ ${words[1]} != -* ]]; then
		command=${words[1]}
		i=2
	fi
	for (( ; i < n; i++)); do
		if [[ -n $flag ]]; then # this word is its value
			flag=
			continue
		fi
		word=${words[i]}
		case $word in
		--)
			operand=${starts[i + 1]}
			break
			;;
		-*=*) ;;
		-?*)
			word=${word#-}
			word=${word#-}
			! _networkproxy_has_value "$command" "$word" || flag=$word
			;;
		*)
			operand=${starts[i]}
			break
			;;
		esac
	done
	if [[ -z $operand && -z $flag && $current == -*=* ]]; then
		flag=${current%%=*}
		[[ $COMP_WORDBREAKS == *=* ]] || prefix=$flag=
		current=${current#*=}
		flag=${flag#-}
		flag=${flag#-}
	fi

	if [[ -n $flag ]]; then
		case $command:$flag in
		@replies@
		esac
		return
	fi
	if [[ -z $operand && $current == -* ]]; then
		case $command in
		@flags@
		esac
		return
	fi
	if ((n == 1)); then
		_networkproxy_words '@names@' "$current"
		return
	fi
	operand=${operand:-${starts[n]}}
	case $command in
	@operands@
	esac
}
complete -F _networkproxy networkproxy
`

const zshTemplate = `#compdef networkproxy
# Completion of networkproxy for zsh. Load it after compinit with:
#   source <(networkproxy completion zsh)
# or save it as _networkproxy in a directory of $fpath.

_networkproxy() {
	local command=serve
	local -a names=(
		@names@
	)
	if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
		_describe command names
		return
	fi
	if [[ $words[2] != -* ]]; then
		command=$words[2]
		shift words
		((CURRENT--))
	fi
	case $command in
	@cases@
	esac
}

if [[ $funcstack[1] == _networkproxy ]]; then
	_networkproxy "$@"
else
	compdef _networkproxy networkproxy
fi
`

const fishTemplate = `# Completion of networkproxy for fish. Load it with:
#   networkproxy completion fish | source

# __networkproxy_first succeeds at the first argument.
function __networkproxy_first
    test (count (commandline -opc)) -eq 1
end

# __networkproxy_in succeeds in the arguments of a command.
function __networkproxy_in
    set -l words (commandline -opc)
    set -l name serve
    if set -q words[2]; and not string match -q -- '-*' $words[2]
        set name $words[2]
    end
    test $name = $argv[1]
end

# __networkproxy_command completes the command after the flags of run.
function __networkproxy_command
    set -l words (commandline -opc)
    set -l i 3
    while set -q words[$i]
        switch $words[$i]
            case --
                set i (math $i + 1)
                break
            case '-*=*'
                set i (math $i + 1)
            case '-*'
                if contains -- (string trim -l -c - -- $words[$i]) @values@
                    set i (math $i + 1)
                end
                set i (math $i + 1)
            case '*'
                break
        end
    end
    set -l line
    if set -q words[$i]
        set line (string escape -- $words[$i..-1])
    end
    complete -C (string join ' ' -- $line (commandline -ct))
end

complete -c networkproxy -f
@completions@
`
