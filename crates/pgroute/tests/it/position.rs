mod floors;
mod forms;
mod model;
