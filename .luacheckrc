-- For `luacheck`: as in Prosody's own repository, with narrower lines. A name of the module API
-- that a module is the first to use goes into the list.
codes = true
std = "lua54c" -- Debian's Prosody 0.12 and 13 run on Lua 5.4
max_line_length = 100
ignore = {
	"411/err", "421/err", "411/ok", "421/ok", -- `local ok, err = …` more than once
	"214", -- a variable that is used although its name begins with "_"
	"581", -- `not (a == b)`
}
read_globals = { "prosody" }

local module_api = {
	"host", "reloading",
	"add_timer", "context", "fire_event", "get_host_type", "get_option", "get_option_boolean",
	"get_option_number", "get_option_string", "hook", "hook_global", "hook_object_event", "log",
	"log_status", "open_store", "set_global",
}
local modules = { read_globals = {}, globals = {} }
for _, name in ipairs(module_api) do
	table.insert(modules.read_globals, "module."..name)
end
for _, name in ipairs { "load", "save", "restore", "unload" } do
	table.insert(modules.globals, "module."..name)
end
files["**/mod_*.lua"] = modules
files["**/*.cfg.lua"] = { ignore = { "111", "113", "131" } } -- every option is a global
