mod split;
mod startup;
mod views;
